"""Masked convolutions: every output pixel reads only pixels that come before it in raster order."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from toolkit.core.errors import UsageError
from toolkit.nn.causal import STEP, Kind, colour_mask
from toolkit.nn.stack import State, init_state, step
from toolkit.nn.taps import past_taps

Tap = tuple[int, int]


class MaskedConv2d(nn.Conv2d):
    """Convolve a picture, reading only earlier pixels, and with kind `B` the current one too.

    Its steps walk over pixels in raster order: `(batch, in)` to `(batch, out)`.

    Arguments:
        kind: `A` leaves the current pixel out, as the first layer must; `B` reads it.
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Odd side of the square kernel; the picture keeps its size.
        colours: Colours of a pixel; with more than one, the current pixel's come one after the
            other, and `A` leaves a colour's own and later ones out, `B` later ones.
        repeats: Equal blocks that the output is cut into later, such as a gate's two halves.

    Raises:
        UsageError: The kernel has no middle, or the channels cannot be shared out evenly.

    References:
        Pixel Recurrent Neural Networks, 2016, arXiv 1601.06759.
    """

    mask: Tensor
    offsets: Tensor

    def __init__(
        self,
        kind: Kind,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        colours: int = 1,
        repeats: int = 1,
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
        if colours > 1:
            mask = mask.repeat(out_channels, in_channels, 1, 1)
            mask[:, :, middle, middle] = colour_mask(
                kind, in_channels, out_channels, colours=colours, repeats=repeats
            )
        self.register_buffer("mask", mask)
        before = [tap for tap in self.taps() if tap != (0, 0)]
        offsets = torch.tensor(before, dtype=torch.int64).reshape(-1, 2)
        self.register_buffer("offsets", offsets, persistent=False)

    def masked_weight(self) -> Tensor:
        """Return the weight with dead taps at zero, `(out, in, kernel, kernel)`."""
        return self.weight * self.mask

    def taps(self) -> list[Tap]:
        """Return the live taps as offsets `(dy, dx)` from the current pixel, in raster order."""
        middle = self.middle
        live = self.mask.reshape(-1, *self.mask.shape[-2:]).amax(0)
        return [(int(y) - middle, int(x) - middle) for y, x in live.nonzero().tolist()]

    @property
    def middle(self) -> int:
        """Index of the kernel's middle row and column."""
        return self.mask.shape[-1] // 2

    def forward(self, x: Tensor) -> Tensor:
        """Return `(batch, out, height, width)` of `(batch, in, height, width)`."""
        return functional.conv2d(x, self.masked_weight(), self.bias, padding=self.padding)

    def init_state(self, batch: int, width: int) -> State:
        """Return the pixels that past taps reach, `(batch, in, pixels)`, and the column, `()`.

        With a kernel of one pixel there are none: `()`.
        """
        if self.middle == 0:
            return ()
        pixels = self.middle * (width + 1)
        return (
            self.weight.new_zeros(batch, self.in_channels, pixels),
            torch.zeros((), dtype=torch.int64, device=self.weight.device),
        )

    def past(self, state: State) -> Tensor:
        """Return what the past taps, of which there are some, and the bias give: `(batch, out)`."""
        return past_taps(*self._past(state), self.bias)

    def current(self, x: Tensor) -> Tensor:
        """Return what the current pixel gives, `(batch, out)` of `(batch, in)`."""
        return functional.linear(x, self.masked_weight()[:, :, self.middle, self.middle])

    def remember(self, x: Tensor, state: State) -> State:
        """Return the pixels for the next step, this one among them."""
        pixels, column = state
        after = torch.cat([pixels, x.unsqueeze(2)], 2)[:, :, 1:]
        return after, (column + 1) % self._width(pixels)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Return `(batch, out)` of `(batch, in)`, and the pixels for the next step."""
        weight, bias = self.masked_weight(), self.bias
        now = weight[:, :, self.middle, self.middle]
        if self.middle == 0:
            return functional.linear(x, now, bias), state
        offset = weight.new_zeros(len(weight)) if bias is None else bias
        seen, past = self._past(state)
        return STEP(x, seen, now, past, offset), self.remember(x, state)

    def _past(self, state: State) -> tuple[Tensor, Tensor]:
        """Return the pixels under the past taps, `(batch, in, taps)`, and their weights."""
        pixels, column = state
        rows, columns = self.offsets.unbind(1)
        width = self._width(pixels)
        inside = (column + columns >= 0) & (column + columns < width)
        places = (pixels.shape[2] + rows * width + columns).clamp(max=pixels.shape[2] - 1)
        weight = self.masked_weight()[:, :, rows + self.middle, columns + self.middle]
        return pixels[:, :, places] * inside, weight

    def _width(self, pixels: Tensor) -> int:
        """Return the picture's width."""
        return pixels.shape[2] // self.middle - 1


class CausalLayer(nn.Module):
    """A masked convolution, an activation, and the input added to the result if `residual`.

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

    def init_state(self, batch: int, width: int) -> State:
        """Return the states of the convolution and of the activation."""
        return tuple(init_state(part, batch, width) for part in (self.conv, self.activation))

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Return `(batch, out)` of `(batch, in)` at this pixel, and the next state."""
        y, conv = step(self.conv, x, state[0])
        y, activation = step(self.activation, y, state[1])
        return (x + y if self.residual else y), (conv, activation)
