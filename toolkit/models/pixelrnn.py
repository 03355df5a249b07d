"""PixelRNN: an LSTM over a picture's diagonals, or over its rows, gives each pixel's law."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from toolkit.models import _categorical
from toolkit.models._size import is_full
from toolkit.nn.masked import MaskedConv2d
from toolkit.nn.recurrent import DiagonalLSTM, RowLSTM
from toolkit.nn.stack import Residual, Stack, State

CELLS = {"diagonal": DiagonalLSTM, "row": RowLSTM}


class PixelRNN(_categorical.Pictures):
    """Model pictures one pixel after the other, in raster order, and R, G, B within a pixel.

    A picture holds `level / (levels - 1)`, so values from 0 to 1. With diagonals,
    `h_ij` comes from `h_{i−1,j}` and `h_{i,j−1}`; with rows, from three pixels of the row above.

    Arguments:
        levels: Number of levels of a colour.
        colours: Colours of a pixel: 1, or 3 for R, then G given R, then B given both.
        height: Rows of a picture.
        width: Columns of a picture.
        hidden: Channels of the LSTMs; a multiple of the colours. Their residual path has twice
            as many.
        layers: Number of LSTM layers.
        cells: `diagonal` or `row`.
        first_kernel: Side of the first kernel.
        size: `given` takes the other arguments; `full` takes the paper's 12 layers of 128 hidden
            channels (126 with three colours).

    Raises:
        UsageError: The size is no known one.

    References:
        Pixel Recurrent Neural Networks, 2016, arXiv 1601.06759.
    """

    def __init__(
        self,
        *,
        levels: int = 17,
        colours: int = 1,
        height: int = 8,
        width: int = 8,
        hidden: int = 24,
        layers: int = 2,
        cells: Literal["diagonal", "row"] = "diagonal",
        first_kernel: int = 7,
        size: str = "given",
    ) -> None:
        super().__init__(levels, (colours, height, width))
        if is_full(size):
            hidden, layers = 128 - 128 % colours, 12
        channels, cell = 2 * hidden, CELLS[cells]
        self.first = MaskedConv2d("A", colours, channels, first_kernel, colours=colours)
        self.rest = Stack(
            *(
                Residual(
                    Stack(
                        cell(channels, hidden, colours=colours),
                        MaskedConv2d("B", hidden, channels, 1, colours=colours),
                    )
                )
                for _ in range(layers)
            ),
            nn.ReLU(),
            MaskedConv2d("B", channels, channels, 1, colours=colours),
            nn.ReLU(),
            MaskedConv2d("B", channels, colours * levels, 1, colours=colours),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `(batch, levels, colours, height, width)` of pictures.

        Arguments:
            x: Pictures `(batch, colours, height, width)`.
        """
        return _categorical.by_colour(self.rest(self.first(x)), self.size[0])

    def init_state(self, batch: int) -> State:
        """Return the state before the first pixel."""
        width = self.size[2]
        return self.first.init_state(batch, width), self.rest.init_state(batch, width)

    def draw(self, noise: Tensor, state: State) -> tuple[Tensor, State]:
        """Draw one pixel, its colours one after the other; no layer computes a pixel twice.

        Arguments:
            noise: Standard Gumbel noise `(batch, colours * levels)`, laid out like the logits.
            state: What the pixels before have left.

        Returns:
            Levels, int64 `(batch, colours)`, and the state for the next pixel.
        """
        pixels, hidden = state
        before, blank = self.first.past(pixels), torch.zeros_like(noise[:, 0])
        levels: list[Tensor] = []
        after = hidden
        colours = self.size[0]
        for colour, now in enumerate(noise.chunk(colours, 1)):
            x = self._pixel(levels, blank)
            logits, after = self.rest.step(before + self.first.current(x), hidden)
            own = logits.chunk(colours, 1)[colour]
            levels.append((own + now).argmax(1))
        pixels = self.first.remember(self._pixel(levels, blank), pixels)
        return torch.stack(levels, 1), (pixels, after)

    def _pixel(self, levels: Sequence[Tensor], blank: Tensor) -> Tensor:
        """Return the colours drawn so far, and nothing for the others, `(batch, colours)`."""
        known = [self.embed(level.to(blank.dtype)) for level in levels]
        return torch.stack([*known, *[blank] * (self.size[0] - len(known))], 1)


model = PixelRNN
