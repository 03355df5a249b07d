"""What models with a code share: sizes by name, and the entries of an autoencoder."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from toolkit.core.entry import Entry, Input
from toolkit.core.errors import UsageError
from toolkit.core.registry import nearest

EXAMPLES = 4
PICTURE_DIMS = ("batch", None, None, None)

Shape = tuple[int, int, int]
Dimensions = TypeVar("Dimensions")


def dimensions(
    sizes: Mapping[str, Dimensions], size: str, *, where: str, **given: Any
) -> Dimensions:
    """Return the dimensions of a size, with those replaced that are given.

    Arguments:
        sizes: The model's sizes: instances of one dataclass by name.
        size: Name of one.
        where: The model's name.
        given: Fields to replace; zero and empty ones keep the size's.

    Raises:
        UsageError: There is no such size, or a dimension is not positive.
    """
    if size not in sizes:
        raise UsageError(
            f"{where} has no size {size!r}", where=where, next_step=nearest(size, list(sizes))
        )
    chosen = {name: value for name, value in given.items() if value}
    for name, value in chosen.items():
        if min(value if hasattr(value, "__iter__") else [value]) < 1:
            raise UsageError(
                f"{name} = {value} is not positive", where=where, next_step="give 1 or more"
            )
    found: Dimensions = dataclasses.replace(sizes[size], **chosen)  # type: ignore[type-var]
    return found


class CodeModel(nn.Module):
    """Pictures to codes and back, without noise.

    Arguments:
        encoder: Maps flat pictures `(batch, pixels)` to codes `(batch, latent)`.
        decoder: Maps codes to flat pictures.
        shape: Channels, height and width of a picture.
        latent: Features of a code.
        domain: Smallest and largest pixel that the encoder is meant for.
    """

    family: ClassVar[str] = "autoencoder"

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        *,
        shape: Shape,
        latent: int,
        domain: tuple[float, float] | None = (0.0, 1.0),
    ) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.shape, self.latent, self.domain = shape, latent, domain

    def encode(self, x: Tensor) -> Tensor:
        """Return the codes `(batch, latent)` of pictures `(batch, channels, height, width)`."""
        code: Tensor = self.encoder(x.flatten(1))
        return code

    def decode(self, code: Tensor) -> Tensor:
        """Return the pictures `(batch, channels, height, width)` of codes."""
        pictures: Tensor = self.decoder(code).reshape(-1, *self.shape)
        return pictures

    def reconstruct(self, x: Tensor) -> Tensor:
        """Return each picture as its code describes it."""
        return self.decode(self.encode(x))

    def entries(self) -> list[Entry]:
        """Return `encode`, `decode` and `reconstruct`."""
        x = picture_input(self.shape, self.domain)
        code = Input("code", torch.randn(EXAMPLES, self.latent, generator=draws()), dims=CODE_DIMS)
        return [
            Entry("encode", "encode", [x], ["code"]),
            Entry("decode", "decode", [code], ["x"], units={"x": "psnr"}),
            Entry(
                "reconstruct",
                "reconstruct",
                [x],
                ["reconstruction"],
                units={"reconstruction": "psnr"},
            ),
        ]


CODE_DIMS = ("batch", None)


def pixels(shape: Shape) -> int:
    """Return how many numbers a picture holds."""
    return math.prod(shape)


def picture_input(shape: Shape, domain: tuple[float, float] | None) -> Input:
    """Return the input `x` of pictures with pixels of a domain; `None` bounds nothing."""
    low, high = domain or (None, None)
    example = torch.rand(EXAMPLES, *shape, generator=draws())
    return Input("x", example, dims=PICTURE_DIMS, low=low, high=high)


def draws() -> torch.Generator:
    """Return the generator of an entry's examples."""
    return torch.Generator().manual_seed(0)
