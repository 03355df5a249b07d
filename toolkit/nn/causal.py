"""Causal convolutions: the current tap is apart from the past ones, so they can be stepped."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from toolkit.core.errors import UsageError
from toolkit.nn.operators import OPERATORS
from toolkit.nn.stack import State
from toolkit.nn.taps import past_taps

Kind = Literal["A", "B"]
STEP = OPERATORS["MaskedConvolutionStep"]


def groups(channels: int, colours: int) -> Tensor:
    """Return which colour each channel stands for, `(channels,)`: equal runs, in order.

    Raises:
        UsageError: The channels cannot be shared out evenly.
    """
    if channels % colours:
        raise UsageError(
            f"{channels} channels cannot be shared out among {colours} colours",
            next_step=f"take a multiple of {colours}",
        )
    return torch.arange(channels) * colours // channels


def colour_mask(
    kind: Kind, in_channels: int, out_channels: int, *, colours: int = 1, repeats: int = 1
) -> Tensor:
    """Return which input channels an output channel may read at its own position, `(out, in)`.

    Colours come one after the other: with kind `A` a channel reads those of earlier colours,
    with `B` those of its own colour too.

    Arguments:
        kind: `A` for the input itself, `B` for what layers made of it.
        in_channels: Input channels.
        out_channels: Output channels.
        colours: Colours of a position; 1 leaves everything out (`A`) or nothing (`B`).
        repeats: Equal blocks that the output is cut into later, such as an LSTM's four gates.

    Raises:
        UsageError: The channels cannot be shared out evenly.

    References:
        Pixel Recurrent Neural Networks, 2016, arXiv 1601.06759, section 3.4.
    """
    if out_channels % repeats:
        raise UsageError(
            f"{out_channels} channels cannot be cut into {repeats} equal blocks",
            next_step=f"take a multiple of {repeats}",
        )
    reads = groups(in_channels, colours)
    writes = groups(out_channels // repeats, colours).repeat(repeats).unsqueeze(1)
    return ((reads < writes) if kind == "A" else (reads <= writes)).float()


class CausalConv1d(nn.Conv1d):
    """Convolve a sequence, reading the current entry and earlier ones.

    Arguments:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Number of taps; the last one is the current entry's.
        dilation: Distance between taps.

    References:
        WaveNet: A Generative Model for Raw Audio, 2016, arXiv 1609.03499, section 2.1.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, *, dilation: int = 1
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, dilation=dilation)
        self.reach = (kernel_size - 1) * dilation

    def masked_weight(self) -> Tensor:
        """Return the weight with dead taps at zero, `(out, in, kernel)`."""
        return self.weight

    def forward(self, x: Tensor) -> Tensor:
        """Return `(batch, out, time)` of `(batch, in, time)`."""
        padded = F.pad(x, (self.reach, 0))
        return F.conv1d(padded, self.masked_weight(), self.bias, dilation=self.dilation)

    def init_state(self, batch: int) -> State:
        """Return the entries that past taps reach, `(batch, in, reach)`; `()` with one tap."""
        return self.weight.new_zeros(batch, self.in_channels, self.reach) if self.reach else ()

    def past(self, state: Tensor) -> Tensor:
        """Return what the past taps, of which there are some, and the bias give: `(batch, out)`."""
        return past_taps(self._seen(state), self.masked_weight()[:, :, :-1], self.bias)

    def current(self, x: Tensor) -> Tensor:
        """Return what the current tap gives, `(batch, out)` of `(batch, in)`."""
        return F.linear(x, self.masked_weight()[:, :, -1])

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Return `(batch, out)` of `(batch, in)`, and the entries for the next step."""
        weight, bias = self.masked_weight(), self.bias
        if self.reach == 0:
            return F.linear(x, weight[:, :, 0], bias), state
        offset = weight.new_zeros(len(weight)) if bias is None else bias
        y = STEP(x, self._seen(state), weight[:, :, -1], weight[:, :, :-1], offset)
        return y, torch.cat([state, x.unsqueeze(2)], 2)[:, :, 1:]

    def _seen(self, state: Tensor) -> Tensor:
        """Return the entries under the past taps, `(batch, in, taps)`."""
        return state[:, :, :: self.dilation[0]]


class MaskedConv1d(CausalConv1d):
    """Convolve a sequence, with a mask between the colours of the current entry.

    Arguments:
        kind: `A` leaves the current entry's own colour out, as a first layer must.
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Number of taps; the last one is the current entry's.
        dilation: Distance between taps.
        colours: Colours of an entry, which come one after the other.
        repeats: Equal blocks that the output is cut into later, such as a gate's two halves.

    Raises:
        UsageError: The channels cannot be shared out evenly.
    """

    mask: Tensor

    def __init__(
        self,
        kind: Kind,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        dilation: int = 1,
        colours: int = 1,
        repeats: int = 1,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, dilation=dilation)
        mask = torch.ones(out_channels, in_channels, kernel_size)
        mask[:, :, -1] = colour_mask(
            kind, in_channels, out_channels, colours=colours, repeats=repeats
        )
        self.register_buffer("mask", mask)

    def masked_weight(self) -> Tensor:
        """Return the weight with dead taps at zero, `(out, in, kernel)`."""
        return self.weight * self.mask


class MaskedRowConv(MaskedConv1d):
    """Convolve every row of a picture as a sequence of its own.

    Its steps walk along a row: `(batch, in)` to `(batch, out)`, from a fresh state per row.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return `(batch, out, height, width)` of `(batch, in, height, width)`."""
        weight = self.masked_weight().unsqueeze(2)
        padded = F.pad(x, (self.reach, 0))
        return F.conv2d(padded, weight, self.bias, dilation=(1, *self.dilation))


class RowCausalConv2d(nn.Conv2d):
    """Convolve a picture, reading the current row and rows above, all columns around.

    Its steps walk over rows: `(batch, in, width)` to `(batch, out, width)`.

    Arguments:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        rows: Rows of the kernel; the last one is the current row's.
        columns: Odd number of columns.

    Raises:
        UsageError: The kernel has no middle column.

    References:
        Conditional Image Generation with PixelCNN Decoders, 2016, arXiv 1606.05328, section 2.2.
    """

    def __init__(self, in_channels: int, out_channels: int, rows: int, columns: int) -> None:
        if columns < 1 or columns % 2 == 0:
            raise UsageError(
                f"a kernel of {columns} columns has no middle",
                next_step="take an odd number of columns",
            )
        super().__init__(in_channels, out_channels, (rows, columns))
        self.above, self.side = rows - 1, columns // 2

    def forward(self, x: Tensor) -> Tensor:
        """Return `(batch, out, height, width)` of `(batch, in, height, width)`."""
        padded = F.pad(x, (self.side, self.side, self.above, 0))
        return F.conv2d(padded, self.weight, self.bias)

    def init_state(self, batch: int, width: int) -> Tensor:
        """Return the rows that past taps reach, none yet: `(batch, in, rows - 1, width)`."""
        return self.weight.new_zeros(batch, self.in_channels, self.above, width)

    def past(self, state: Tensor) -> Tensor:
        """Return what the rows above and the bias give, `(batch, out, width)`."""
        if self.above == 0:
            blank = state.new_zeros(state.shape[0], self.out_channels, state.shape[3])
            return blank if self.bias is None else blank + self.bias.unsqueeze(1)
        padding = (0, self.side)
        return F.conv2d(state, self.weight[:, :, :-1], self.bias, padding=padding).squeeze(2)

    def current(self, x: Tensor) -> Tensor:
        """Return what the current row gives, `(batch, out, width)` of `(batch, in, width)`."""
        return F.conv1d(x, self.weight[:, :, -1], padding=self.side)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return `(batch, out, width)` of `(batch, in, width)`, and the rows for the next step."""
        return self.past(state) + self.current(x), torch.cat([state, x.unsqueeze(2)], 2)[:, :, 1:]


def row_above(x: Tensor) -> Tensor:
    """Return a picture moved one row down, `(batch, channels, height, width)` of the same."""
    return F.pad(x, (0, 0, 1, 0))[:, :, :-1]
