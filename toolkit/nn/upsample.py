"""Upsampling by a whole factor: nearest neighbour, bed of nails, transposed convolution."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from toolkit.core.errors import UsageError

Upsampling = Literal["nearest", "bed_of_nails", "transposed"]


class Nearest(nn.Module):
    """Repeat every pixel.

    Arguments:
        factor: By how much height and width grow.
    """

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """Return `(batch, channels, factor · height, factor · width)`."""
        return F.interpolate(x, scale_factor=float(self.factor), mode="nearest")


class BedOfNails(nn.Module):
    """Put every pixel into the top left corner of a square of zeros.

    Arguments:
        channels: Channels of the pictures.
        factor: By how much height and width grow.
    """

    nail: Tensor

    def __init__(self, channels: int, factor: int) -> None:
        super().__init__()
        self.channels, self.factor = channels, factor
        nail = torch.zeros(channels, 1, factor, factor)
        nail[:, :, 0, 0] = 1
        self.register_buffer("nail", nail, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return `(batch, channels, factor · height, factor · width)`."""
        return F.conv_transpose2d(x, self.nail, stride=self.factor, groups=self.channels)


class Transposed(nn.ConvTranspose2d):
    """A learned transposed convolution that starts as bilinear interpolation.

    Arguments:
        channels: Channels of the pictures.
        factor: By how much height and width grow; even.

    References:
        Fully Convolutional Networks for Semantic Segmentation, arXiv 1411.4038, section 3.3.
    """

    def __init__(self, channels: int, factor: int) -> None:
        super().__init__(
            channels, channels, 2 * factor, stride=factor, padding=factor // 2, bias=False
        )
        ramp = 1 - (torch.arange(2 * factor) + 0.5 - factor).abs() / factor
        with torch.no_grad():
            self.weight.zero_()
            every = torch.arange(channels)
            self.weight[every, every] = ramp[:, None] * ramp


def upsampler(kind: Upsampling, channels: int, factor: int) -> nn.Module:
    """Return a module that multiplies height and width by `factor` and keeps the channels.

    Raises:
        UsageError: There is no such kind, or it cannot have that factor.
    """
    if kind == "nearest":
        return Nearest(factor)
    if kind == "bed_of_nails":
        return BedOfNails(channels, factor)
    if kind == "transposed" and factor % 2 == 0:
        return Transposed(channels, factor)
    raise UsageError(
        f"upsampling = {kind!r} by {factor} does not exist",
        where="[model] of the recipe",
        next_step="one of nearest, bed_of_nails, transposed (by an even factor)",
    )
