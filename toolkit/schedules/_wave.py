"""The geometry of a wavefront: which pixels a step computes, and where it finds what they read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from toolkit.nn.masked import Tap
from toolkit.schedules._stack import HERE


@dataclass(frozen=True, slots=True)
class Wave:
    """Step `t` computes pixel `(y, t - skew * y)` of every row `y` that it meets.

    A row's place in a step is its slot, `y % slots`. A history holds what the last steps computed,
    newest first, after one entry that stays zero: `1 + lag * slots` entries.

    Arguments:
        height: Rows of a picture.
        width: Columns of a picture.
        skew: Steps by which a row runs behind the row above.
    """

    height: int
    width: int
    skew: int

    @property
    def slots(self) -> int:
        """How many rows a step computes at once."""
        return min(self.height, -(-self.width // self.skew))

    @property
    def steps(self) -> int:
        """How many steps a picture takes."""
        return self.width + (self.height - 1) * self.skew

    def pixels(self) -> Tensor:
        """Return the raster position of each step's slots, `(steps, slots)`; 0 where idle."""
        table = torch.zeros(self.steps, self.slots, dtype=torch.int64)
        for step, row, column in self._visits():
            table[step, row % self.slots] = row * self.width + column
        return table

    def places(self) -> Tensor:
        """Return where in `(steps, slots)`, flattened, each raster position is computed."""
        table = torch.zeros(self.height * self.width, dtype=torch.int64)
        for step, row, column in self._visits():
            table[row * self.width + column] = step * self.slots + row % self.slots
        return table

    def reads(self, taps: Sequence[Tap]) -> Tensor:
        """Return the history entries that each step's taps read, `(steps, slots, taps)`."""
        table = torch.zeros(self.steps, self.slots, len(taps), dtype=torch.int64)
        for step, row, column in self._visits():
            for index, (dy, dx) in enumerate(taps):
                if row + dy >= 0 and 0 <= column + dx < self.width:
                    slot = (row + dy) % self.slots
                    entry = 1 + (lag((dy, dx), self.skew) - 1) * self.slots + slot
                    table[step, row % self.slots, index] = entry
        return table

    def _visits(self) -> Iterable[tuple[int, int, int]]:
        for row in range(self.height):
            for column in range(self.width):
                yield column + self.skew * row, row, column


def lag(tap: Tap, skew: int) -> int:
    """Return how many steps before the current one a tap's pixel was computed."""
    dy, dx = tap
    return -(dx + skew * dy)


def least_skew(taps: Iterable[Tap]) -> int:
    """Return the smallest skew at which every tap but the current one has a lag of 1 or more.

    Every path through a chain of such layers then ends at an earlier step, because its first layer
    leaves the current pixel out: the sum of `dx + skew * dy` along it is -1 or less.
    """
    return max([1, *(-(-(dx + 1) // -dy) for dy, dx in taps if dy < 0)])


def past(taps: Iterable[Tap]) -> tuple[Tap, ...]:
    """Return the taps that read earlier pixels."""
    return tuple(tap for tap in taps if tap != HERE)
