"""Recurrent layers: over sequences, and over pictures along diagonals and rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch._higher_order_ops.scan import scan
from torch.nn import functional as F

from toolkit.nn.causal import MaskedRowConv
from toolkit.nn.masked import MaskedConv2d
from toolkit.nn.stack import State

GATES = 4
Cells = tuple[Tensor, ...]
Pair = tuple[Tensor, Tensor]


def lstm_cell(gates: Tensor, cell: Tensor) -> Pair:
    """Return hidden values and cell, `(batch, channels, …)` each.

    Arguments:
        gates: Input, forget, new and output gate before their activations, one after the other
            along the channels.
        cell: The cell before, which is kept or forgotten.
    """
    enter, keep, new, leave = gates.chunk(GATES, 1)
    cell = torch.sigmoid(keep) * cell + torch.sigmoid(enter) * torch.tanh(new)
    return torch.sigmoid(leave) * torch.tanh(cell), cell


class _Recurrent(nn.Module):
    """Recurrent layers; `cell` says what a layer makes of its input, and of its state before."""

    states: ClassVar[int] = 1

    def __init__(self, net: nn.RNNBase) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """Return `(batch, time, hidden)` of `(batch, time, features)`."""
        y: Tensor = self.net(x)[0]
        return y

    def init_state(self, batch: int) -> State:
        """Return every layer's states, zero: `(batch, hidden)` each."""
        blank = self.net.all_weights[0][0].new_zeros(batch, self.net.hidden_size)
        return tuple((blank,) * self.states for _ in range(self.net.num_layers))

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Return `(batch, hidden)` of `(batch, features)`, and the next states."""
        after = []
        for weights, before in zip(self.net.all_weights, state, strict=True):
            weight_x, weight_h, bias_x, bias_h = weights
            new = self.cell(
                F.linear(x, weight_x, bias_x), F.linear(before[0], weight_h, bias_h), before
            )
            x = new[0]
            after.append(new)
        return x, tuple(after)

    def cell(self, x: Tensor, hidden: Tensor, state: Cells) -> Cells:
        """Return a layer's next states, the hidden values first.

        Arguments:
            x: What the input's weights give, `(batch, gates · hidden)`.
            hidden: What the hidden values' weights give.
            state: The states before.
        """
        raise NotImplementedError


class RNN(_Recurrent):
    """Vanilla recurrent layers: `h_t = tanh(W x_t + U h_{t−1} + b)`.

    Arguments:
        features: Features of an entry.
        hidden: Hidden features of every layer.
        layers: Number of layers.
    """

    def __init__(self, features: int, hidden: int, layers: int = 1) -> None:
        super().__init__(nn.RNN(features, hidden, layers, batch_first=True))

    def cell(self, x: Tensor, hidden: Tensor, state: Cells) -> Cells:  # noqa: ARG002
        """Return the next hidden values."""
        return (torch.tanh(x + hidden),)


class GRU(_Recurrent):
    """Gated recurrent units.

    Arguments:
        features: Features of an entry.
        hidden: Hidden features of every layer.
        layers: Number of layers.

    References:
        Learning Phrase Representations using RNN Encoder-Decoder, 2014, arXiv 1406.1078.
    """

    def __init__(self, features: int, hidden: int, layers: int = 1) -> None:
        super().__init__(nn.GRU(features, hidden, layers, batch_first=True))

    def cell(self, x: Tensor, hidden: Tensor, state: Cells) -> Cells:
        """Return the next hidden values."""
        reset, update, new = x.chunk(3, 1)
        reset_h, update_h, new_h = hidden.chunk(3, 1)
        kept = torch.sigmoid(update + update_h)
        fresh = torch.tanh(new + torch.sigmoid(reset + reset_h) * new_h)
        return ((1 - kept) * fresh + kept * state[0],)


class LSTM(_Recurrent):
    """Long short-term memory.

    Arguments:
        features: Features of an entry.
        hidden: Hidden features of every layer.
        layers: Number of layers.

    References:
        Long Short-Term Memory, 1997; its forget gate: Learning to Forget, 1999.
    """

    states: ClassVar[int] = 2

    def __init__(self, features: int, hidden: int, layers: int = 1) -> None:
        super().__init__(nn.LSTM(features, hidden, layers, batch_first=True))

    def cell(self, x: Tensor, hidden: Tensor, state: Cells) -> Cells:
        """Return the next hidden values and cell."""
        return lstm_cell(x + hidden, state[1])


class DiagonalLSTM(nn.Module):
    """An LSTM over pixels: `h_ij` from `h_{i−1,j}`, `h_{i,j−1}` and the input at (i, j).

    All pixels of a diagonal are computed at once. The cell comes from the left. Its steps walk
    over pixels in raster order: `(batch, channels)` to `(batch, hidden)`.

    Arguments:
        channels: Channels of the input.
        hidden: Channels of the output.
        colours: Colours of a pixel, which come one after the other in the input's channels.

    References:
        Pixel Recurrent Neural Networks, 2016, arXiv 1601.06759, section 3.2.
    """

    def __init__(self, channels: int, hidden: int, *, colours: int = 1) -> None:
        super().__init__()
        self.hidden = hidden
        self.input = MaskedConv2d("B", channels, GATES * hidden, 1, colours=colours, repeats=GATES)
        self.state = nn.Conv1d(hidden, GATES * hidden, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return `(batch, hidden, height, width)` of `(batch, channels, height, width)`."""
        height, width = x.shape[2:]
        gates = skew(self.input(x))
        # A row of the skewed picture starts later than the one above it: until then it is empty.
        places = torch.arange(height + width - 1, device=x.device).unsqueeze(1)
        begun = (places >= torch.arange(height, device=x.device)).to(x.dtype)
        weight = self.state.weight.clone()

        def body(state: Pair, given: tuple[Tensor, ...]) -> tuple[Pair, Tensor]:
            hidden, cell = state
            now, inside = given
            hidden, cell = lstm_cell(now + F.conv1d(F.pad(hidden, (1, 0)), weight), cell)
            hidden, cell = hidden * inside, cell * inside
            return (hidden, cell), hidden.clone()

        blank = x.new_zeros(x.shape[0], self.hidden, height)
        return unskew(_run(body, blank, (gates.permute(3, 0, 1, 2), begun)), width)

    def init_state(self, batch: int, width: int) -> State:
        """Return the last row of hidden values, the cell to the left, and the column."""
        blank = self.state.weight.new_zeros(batch, self.hidden, width)
        return blank, blank[:, :, 0], torch.zeros((), dtype=torch.int64, device=blank.device)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Return `(batch, hidden)` of `(batch, channels)` at this pixel, and the next state."""
        row, cell, column = state
        inside = (column > 0).to(x.dtype)
        around = torch.stack([row[:, :, 0], inside * row[:, :, -1]], 2)
        given, _ = self.input.step(x, ())
        gates = given + self.state(around).squeeze(2)
        hidden, cell = lstm_cell(gates, inside * cell)
        row = torch.cat([row, hidden.unsqueeze(2)], 2)[:, :, 1:]
        return hidden, (row, cell, (column + 1) % row.shape[2])


class RowLSTM(nn.Module):
    """An LSTM from row to row: a pixel's hidden values from three of the row above.

    All pixels of a row are computed at once. Its steps walk over pixels in raster order:
    `(batch, channels)` to `(batch, hidden)`.

    Arguments:
        channels: Channels of the input.
        hidden: Channels of the output.
        colours: Colours of a pixel, which come one after the other in the input's channels.

    References:
        Pixel Recurrent Neural Networks, 2016, arXiv 1601.06759, section 3.1.
    """

    def __init__(self, channels: int, hidden: int, *, colours: int = 1) -> None:
        super().__init__()
        self.hidden = hidden
        self.input = MaskedRowConv("B", channels, GATES * hidden, 2, colours=colours, repeats=GATES)
        self.state = nn.Conv1d(hidden, GATES * hidden, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return `(batch, hidden, height, width)` of `(batch, channels, height, width)`."""
        weight = self.state.weight.clone()

        def body(state: Pair, given: tuple[Tensor, ...]) -> tuple[Pair, Tensor]:
            hidden, cell = state
            hidden, cell = lstm_cell(given[0] + F.conv1d(hidden, weight, padding=1), cell)
            return (hidden, cell), hidden.clone()

        blank = x.new_zeros(x.shape[0], self.hidden, x.shape[3])
        return _run(body, blank, (self.input(x).permute(2, 0, 1, 3),)).permute(1, 2, 0, 3)

    def init_state(self, batch: int, width: int) -> State:
        """Return the input to the left, hidden values and cells of a row back, and the column."""
        blank = self.state.weight.new_zeros(batch, self.hidden, width + 1)
        column = torch.zeros((), dtype=torch.int64, device=blank.device)
        return self.input.init_state(batch), blank, blank[:, :, 1:], column

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Return `(batch, hidden)` of `(batch, channels)` at this pixel, and the next state."""
        left, hidden, cells, column = state
        width = cells.shape[2]
        begun, more = (column > 0).to(x.dtype), (column < width - 1).to(x.dtype)
        # The newest of `width + 1` hidden values is to the left, the oldest above that.
        above = [begun * hidden[:, :, 0], hidden[:, :, 1], more * hidden[:, :, min(2, width)]]
        given, left = self.input.step(x, begun * left)
        gates = given + F.conv1d(torch.stack(above, 2), self.state.weight).squeeze(2)
        new, cell = lstm_cell(gates, cells[:, :, 0])
        hidden, cells = (
            torch.cat([old, value.unsqueeze(2)], 2)[:, :, 1:]
            for old, value in ((hidden, new), (cells, cell))
        )
        return new, (left, hidden, cells, (column + 1) % width)


def skew(x: Tensor) -> Tensor:
    """Return `(…, height, width + height - 1)`: every row moved one further than the one above."""
    height, width = x.shape[-2:]
    flat = F.pad(x, (0, height)).flatten(-2)[..., :-height]
    return flat.reshape(*x.shape[:-1], width + height - 1)


def unskew(diagonals: Tensor, width: int) -> Tensor:
    """Return `(batch, channels, height, width)` of diagonals `(steps, batch, channels, height)`."""
    x = diagonals.permute(1, 2, 3, 0)
    height = x.shape[-2]
    flat = F.pad(x.flatten(-2), (0, height))
    return flat.reshape(*x.shape[:-1], width + height)[..., :width]


def _run(
    body: Callable[[Pair, tuple[Tensor, ...]], tuple[Pair, Tensor]],
    blank: Tensor,
    inputs: tuple[Tensor, ...],
) -> Tensor:
    """Stack what the steps give: by one `scan` in a captured graph, by a plain loop in eager."""
    if torch.compiler.is_compiling():
        stacked: Tensor = scan(body, (blank, blank.clone()), inputs)[1]
        return stacked
    state, given = (blank, blank), []
    for now in zip(*inputs, strict=True):
        state, hidden = body(state, now)
        given.append(hidden)
    return torch.stack(given)
