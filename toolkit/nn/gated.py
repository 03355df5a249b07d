"""Gated blocks: of WaveNet for sequences, and of the gated PixelCNN for pictures."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from toolkit.nn.causal import CausalConv1d, Kind, MaskedRowConv, RowCausalConv2d, row_above
from toolkit.nn.stack import State

Pair = tuple[Tensor, Tensor]


def gate(x: Tensor) -> Tensor:
    """Return `tanh(a) · sigmoid(b)` of the channels' two halves, `(batch, channels / 2, …)`."""
    a, b = x.chunk(2, 1)
    return torch.tanh(a) * torch.sigmoid(b)


class GatedResidual1d(nn.Module):
    """A gated dilated convolution with two outputs: to the next layer, and to the head.

    Arguments:
        channels: Channels of the residual path.
        skip_channels: Channels of what goes to the head.
        kernel_size: Taps of the dilated convolution.
        dilation: Distance between the taps.
        last: Whether no layer follows; the residual path then ends here, and has no weights.

    References:
        WaveNet: A Generative Model for Raw Audio, 2016, arXiv 1609.03499, sections 2.3 and 2.4.
    """

    def __init__(
        self, channels: int, skip_channels: int, kernel_size: int, dilation: int, *, last: bool
    ) -> None:
        super().__init__()
        self.conv = CausalConv1d(channels, 2 * channels, kernel_size, dilation=dilation)
        self.skip = CausalConv1d(channels, skip_channels, 1)
        self.out = None if last else CausalConv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Pair:
        """Return `(batch, channels, time)` and `(batch, skip_channels, time)`."""
        y = gate(self.conv(x))
        return (x if self.out is None else x + self.out(y)), self.skip(y)

    def init_state(self, batch: int) -> State:
        """Return the dilated convolution's state."""
        return self.conv.init_state(batch)

    def step(self, x: Tensor, state: State) -> tuple[Pair, State]:
        """Return `(batch, channels)` and `(batch, skip_channels)`, and the next state."""
        y, state = self.conv.step(x, state)
        y = gate(y)
        onward = x if self.out is None else x + self.out.step(y, ())[0]
        return (onward, self.skip.step(y, ())[0]), state


def _total(skips: Sequence[Tensor]) -> Tensor:
    first, *others = skips
    for skip in others:
        first = first + skip
    return first


class GatedStack1d(nn.Module):
    """Gated residual layers, one after the other; what they give to the head is added up.

    Arguments:
        channels: Channels of the residual path.
        skip_channels: Channels of the sum.
        kernel_size: Taps of every layer.
        dilations: Distance between the taps, layer by layer.
    """

    def __init__(
        self, channels: int, skip_channels: int, kernel_size: int, dilations: Sequence[int]
    ) -> None:
        super().__init__()
        final = len(dilations) - 1
        self.layers = nn.ModuleList(
            GatedResidual1d(channels, skip_channels, kernel_size, dilation, last=number == final)
            for number, dilation in enumerate(dilations)
        )
        self.receptive_field = 1 + (kernel_size - 1) * sum(dilations)

    def forward(self, x: Tensor) -> Tensor:
        """Return `(batch, skip_channels, time)` of `(batch, channels, time)`."""
        skips = []
        for layer in self._layers():
            x, skip = layer(x)
            skips.append(skip)
        return _total(skips)

    def init_state(self, batch: int) -> State:
        """Return every layer's state."""
        return tuple(layer.init_state(batch) for layer in self._layers())

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Return `(batch, skip_channels)` of `(batch, channels)`, and every layer's next state."""
        skips, after = [], []
        for layer, before in zip(self._layers(), state, strict=True):
            (x, skip), new = layer.step(x, before)
            skips.append(skip)
            after.append(new)
        return _total(skips), tuple(after)

    def _layers(self) -> list[GatedResidual1d]:
        return [layer for layer in self.layers if isinstance(layer, GatedResidual1d)]


class GatedPixelLayer(nn.Module):
    """A vertical path that sees all rows above, and a horizontal one along the row, both gated.

    The vertical path reaches the horizontal one a row late. Together they see every pixel before
    the current one, where a masked square kernel leaves a blind spot to the right.

    Its steps walk over rows: pairs of `(batch, in, width)` to pairs of `(batch, channels, width)`.

    Arguments:
        kind: `A` for the first layer, whose input is the picture on both paths; `B` for others.
        in_channels: Channels of either path's input.
        channels: Channels of either path's output.
        kernel_size: Odd side of the square kernel that the two paths stand for.
        colours: Colours of a pixel, R before G before B.

    References:
        Conditional Image Generation with PixelCNN Decoders, 2016, arXiv 1606.05328, section 2.
    """

    def __init__(
        self, kind: Kind, in_channels: int, channels: int, kernel_size: int, *, colours: int = 1
    ) -> None:
        super().__init__()
        half = kernel_size // 2 + 1
        self.residual = kind == "B"
        self.vertical = RowCausalConv2d(in_channels, 2 * channels, half, kernel_size)
        self.link = nn.Conv2d(2 * channels, 2 * channels, 1)
        self.horizontal = MaskedRowConv(
            kind, in_channels, 2 * channels, half, colours=colours, repeats=2
        )
        self.out = MaskedRowConv("B", channels, channels, 1, colours=colours)

    def forward(self, pair: Pair) -> Pair:
        """Return both paths, `(batch, channels, height, width)` each."""
        vertical, horizontal = pair
        seen = self.vertical(vertical)
        return gate(seen), self._row(horizontal, row_above(seen))

    def init_state(self, batch: int, width: int) -> State:
        """Return the vertical convolution's rows, and what it gave for the row above."""
        state = self.vertical.init_state(batch, width)
        return state, state.new_zeros(batch, self.vertical.out_channels, width)

    def step(self, pair: Pair, state: State) -> tuple[Pair, State]:
        """Return both paths' next row, and the next state."""
        vertical, horizontal = pair
        rows, above = state
        seen, rows = self.vertical.step(vertical, rows)
        along = self._row(horizontal.unsqueeze(2), above.unsqueeze(2)).squeeze(2)
        return (gate(seen), along), (rows, seen)

    def _row(self, x: Tensor, above: Tensor) -> Tensor:
        """Return the horizontal path, given what the vertical one gave for the row above."""
        y: Tensor = self.out(gate(self.horizontal(x) + self.link(above)))
        return x + y if self.residual else y
