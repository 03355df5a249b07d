"""Masked convolutions: every output pixel reads only pixels that come before it in raster order."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from toolkit.core.errors import UsageError

Tap = tuple[int, int]


class MaskedConv2d(nn.Conv2d):
    """Convolve a picture, reading only earlier pixels, and with kind `B` the current one too.

    Arguments:
        kind: `A` leaves the current pixel out, as the first layer must; `B` reads it.
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Odd side of the square kernel; the picture keeps its size.

    Raises:
        UsageError: The kernel has no middle.

    References:
        Pixel Recurrent Neural Networks, 2016, arXiv 1601.06759.
    """

    mask: Tensor

    def __init__(
        self, kind: Literal["A", "B"], in_channels: int, out_channels: int, kernel_size: int
    ) -> None:
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise UsageError(
                f"a masked kernel needs a middle, and a side of {kernel_size} has none",
                next_step="take an odd kernel size",
            )
        middle = kernel_size // 2
        super().__init__(in_channels, out_channels, kernel_size, padding=middle)
        mask = torch.ones(kernel_size, kernel_size)
        mask[middle, middle + (kind == "B") :] = 0
        mask[middle + 1 :] = 0
        self.register_buffer("mask", mask)

    def masked_weight(self) -> Tensor:
        """Return the weight with dead taps at zero, `(out, in, kernel, kernel)`."""
        return self.weight * self.mask

    def taps(self) -> list[Tap]:
        """Return the live taps as offsets `(dy, dx)` from the current pixel, in raster order."""
        middle = self.mask.shape[0] // 2
        return [(int(y) - middle, int(x) - middle) for y, x in self.mask.nonzero().tolist()]

    def forward(self, x: Tensor) -> Tensor:
        """Return `(batch, out, height, width)` of `(batch, in, height, width)`."""
        return functional.conv2d(x, self.masked_weight(), self.bias, padding=self.padding)


class CausalLayer(nn.Module):
    """A masked convolution, an activation, and the input added to the result if `residual`.

    A network is a causal stack when it is a chain of these. Then `toolkit.schedules` can evaluate
    it pixel by pixel without computing anything twice.

    Arguments:
        conv: The convolution.
        activation: Acts on each pixel alone; channels are axis 1 of what it is given.
        residual: Whether the layer's input is added to its output.
    """

    def __init__(self, conv: MaskedConv2d, activation: nn.Module, *, residual: bool) -> None:
        super().__init__()
        self.conv = conv
        self.activation = activation
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        """Return `(batch, out, height, width)` of `(batch, in, height, width)`."""
        y: Tensor = self.activation(self.conv(x))
        return x + y if self.residual else y
