"""What generative adversarial networks share: their two parts, and the entries of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from toolkit.core.entry import Entry, Input
from toolkit.core.errors import UsageError
from toolkit.models._latent import CODE_DIMS, EXAMPLES, Shape, draws, picture_input
from toolkit.nn.dcgan import Discriminator, Generator


@dataclass(frozen=True, slots=True)
class Dimensions:
    """Shape of a picture, features of the noise, channels at each size, and side of a kernel."""

    shape: Shape
    latent: int
    widths: Sequence[int]
    kernel: int


class AdversarialModel(nn.Module):
    """A generator and what judges its pictures; channels are mirrored.

    Arguments:
        dims: Dimensions of both.
        batch_norm: Whether the discriminator normalises its batches; the generator always does.
        where: The model's name.

    Raises:
        UsageError: The sides of a picture cannot be halved so often.
    """

    family: ClassVar[str] = "adversarial"

    def __init__(self, dims: Dimensions, *, batch_norm: bool, where: str) -> None:
        super().__init__()
        _, height, width = dims.shape
        factor = 2 ** len(dims.widths)
        if height % factor or width % factor:
            raise UsageError(
                f"pictures of {height}x{width} cannot be halved {len(dims.widths)} times",
                where=where,
                next_step="give fewer widths, or sides that are a multiple of 2 to that power",
            )
        self.shape, self.noise_shape = dims.shape, (dims.latent,)
        self.generator = Generator(dims.latent, dims.shape, dims.widths, dims.kernel)
        self.discriminator = Discriminator(
            dims.shape, dims.widths[::-1], dims.kernel, batch_norm=batch_norm
        )

    def generate(self, noise: Tensor) -> Tensor:
        """Return pictures `(batch, channels, height, width)` in [0, 1] of normal noise."""
        pictures: Tensor = self.generator(noise)
        return pictures

    def discriminate(self, x: Tensor) -> Tensor:
        """Return a number `(batch,)` of each picture: the larger, the more it seems real."""
        judged: Tensor = self.discriminator(x)
        return judged

    def entries(self) -> list[Entry]:
        """Return `discriminate` and `generate`."""
        noise = torch.randn(EXAMPLES, *self.noise_shape, generator=draws())
        return [
            Entry("discriminate", "discriminate", [picture_input(self.shape, (0, 1))], ["logit"]),
            Entry(
                "generate",
                "generate",
                [Input("noise", noise, dims=CODE_DIMS, kind="noise")],
                ["x"],
                units={"x": "psnr"},
            ),
        ]
