"""Glow: a multi-scale flow over pictures with invertible 1x1 convolutions."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from toolkit.core.entry import Entry
from toolkit.core.errors import UsageError
from toolkit.models._flow import flow_entries
from toolkit.nn.actnorm import ActNorm
from toolkit.nn.coupling import AffineCoupling
from toolkit.nn.flow import Chain, Flow
from toolkit.nn.multiscale import MultiScale
from toolkit.nn.networks import ConvNetwork
from toolkit.nn.permute import InvertibleConv1x1
from toolkit.nn.squeeze import Squeeze


class Glow(Flow):
    """A density over pictures with values in [0, 1].

    Every scale squeezes and applies `depth` steps of ActNorm, invertible 1x1 convolution and
    affine coupling. Half of the channels then leave; their prior is a normal whose mean and
    deviation are predicted from the other half, so that the noise of all scales is standard
    normal. It lies in one tensor `(batch, channels · size²)`.

    Arguments:
        channels: Channels of a picture.
        size: Height and width; a multiple of `2 ** scales`.
        scales: Number of scales (L in the paper).
        depth: Steps per scale (K in the paper).
        width: Hidden channels of a coupling's network.
        grey_levels: Levels of the dequantised data, `x = (level + u) / grey_levels`.

    Raises:
        UsageError: The scales do not divide the size.

    References:
        Glow: Generative Flow with Invertible 1x1 Convolutions, arXiv 1807.03039.
    """

    family: ClassVar[str] = "flow"

    def __init__(
        self,
        *,
        channels: int = 1,
        size: int = 8,
        scales: int = 2,
        depth: int = 8,
        width: int = 64,
        grey_levels: int = 17,
    ) -> None:
        if scales < 1 or size < 1 or size % 2**scales:
            raise UsageError(
                f"size = {size} cannot be halved {scales} times",
                where="glow",
                next_step=f"take a multiple of {2 ** max(scales, 1)}, or other scales",
            )
        shapes = [
            (channels * 2 ** (scale + 2), size // 2 ** (scale + 1), size // 2 ** (scale + 1))
            for scale in range(scales)
        ]
        steps = (
            [step for _ in range(depth) for step in _step(shape[0], width)] for shape in shapes
        )
        super().__init__(MultiScale([Chain([Squeeze(), *scale]) for scale in steps], shapes))
        self.shape = (channels, size, size)
        self.bin_width = 1 / grey_levels

    def sample(self, noise: Tensor) -> Tensor:
        """Return pictures `(batch, channels, size, size)` in [0, 1] for standard-normal noise."""
        return super().sample(noise).clamp(0, 1)

    def entries(self) -> list[Entry]:
        """Return `log_prob`, `inverse` and `sample`."""
        channels, height, width = self.shape
        return flow_entries(self.shape, (channels * height * width,))


def _step(channels: int, width: int) -> tuple[ActNorm, InvertibleConv1x1, AffineCoupling]:
    network = ConvNetwork(channels // 2, channels, width=width)
    return ActNorm(channels), InvertibleConv1x1(channels), AffineCoupling(network)


model = Glow
