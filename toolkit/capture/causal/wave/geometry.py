"""The geometry of a wavefront: which pixels a step computes, and where it finds what they read.

Step `t` computes entry `(y, x)` of a stream where `skew * y + x + phase = t`, so several rows at
once, each `skew` steps behind the row above. Phases belong to streams: what looks right within its
own row (a vertical stack) is computed late. That of the sampled pixel is 0.

References:
    Pixel Recurrent Neural Networks, 2016, arXiv 1601.06759, section 3.2, skews rows likewise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Tap = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Rect:
    """Rows `top` to before `bottom`, columns `left` to before `right`."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def width(self) -> int:
        """Columns."""
        return self.right - self.left

    @property
    def empty(self) -> bool:
        """Whether it holds no entry."""
        return self.bottom <= self.top or self.right <= self.left

    def moved(self, tap: Tap) -> Rect:
        """Return the entries that a tap reads for these."""
        dy, dx = tap
        return Rect(self.top + dy, self.left + dx, self.bottom + dy, self.right + dx)

    def cut(self, other: Rect) -> Rect:
        """Return what both hold."""
        return Rect(
            max(self.top, other.top),
            max(self.left, other.left),
            min(self.bottom, other.bottom),
            min(self.right, other.right),
        )

    def joined(self, other: Rect) -> Rect:
        """Return the least that holds both."""
        if self.empty or other.empty:
            return other if self.empty else self
        return Rect(
            min(self.top, other.top),
            min(self.left, other.left),
            max(self.bottom, other.bottom),
            max(self.right, other.right),
        )

    def holds(self, row: int, column: int) -> bool:
        """Return whether an entry lies in it."""
        return self.top <= row < self.bottom and self.left <= column < self.right


@dataclass(frozen=True, slots=True)
class Place:
    """When a stream's entries are computed.

    Arguments:
        phase: Steps behind those of the sampled pixels.
        rect: The entries that are computed.
    """

    phase: int
    rect: Rect


@dataclass(frozen=True, slots=True)
class Wave:
    """The steps of a wavefront.

    A row's place in a step is its slot, `row % slots`.

    Arguments:
        skew: Steps by which a row runs behind the row above.
        slots: How many rows a step computes at once.
        first: The first step; below 0 where something is needed before the first pixel.
        last: The step after the last one.
    """

    skew: int
    slots: int
    first: int
    last: int

    @property
    def steps(self) -> int:
        """How many steps a picture takes."""
        return self.last - self.first

    def visits(self, place: Place) -> Iterator[tuple[int, int, int, int]]:
        """Yield step, slot, row and column of each entry of a stream."""
        rect = place.rect
        for row in range(rect.top, rect.bottom):
            for column in range(rect.left, rect.right):
                step = self.skew * row + column + place.phase - self.first
                if step < self.steps:
                    yield step, row % self.slots, row, column

    def entries(self, place: Place, domain: Rect) -> Tensor:
        """Return which entry of a domain each slot computes, `(steps, slots)`; 0 where idle."""
        table = torch.zeros(self.steps, self.slots, dtype=torch.int64)
        for step, slot, row, column in self.visits(place):
            table[step, slot] = (row - domain.top) * domain.width + column - domain.left
        return table

    def finds(self, reader: Place, tap: Tap, domain: Rect) -> Tensor:
        """Return where a reader's tap finds an entry of a domain, bool `(steps, slots)`."""
        table = torch.zeros(self.steps, self.slots, dtype=torch.bool)
        for step, slot, row, column in self.visits(reader):
            table[step, slot] = domain.holds(row + tap[0], column + tap[1])
        return table

    def places(self, place: Place) -> Tensor:
        """Return where in `(steps, slots)`, flattened, each entry is computed, in raster order."""
        return torch.tensor([step * self.slots + slot for step, slot, *_ in self.visits(place)])

    def lag(self, reader: Place, source: Place, tap: Tap) -> int:
        """Return how many steps before the reader's an entry of the source was computed."""
        dy, dx = tap
        return reader.phase - source.phase - dx - self.skew * dy

    def writes(self, lags: int) -> Tensor:
        """Return the place of a history that each step writes, `(steps,)`.

        A history has a place that stays zero, then a ring of places, one per step: of each step
        all slots, of each slot all members.

        Arguments:
            lags: Places of the ring.
        """
        return 1 + torch.arange(self.steps) % lags

    def reads(
        self, reader: Place, source: Place, taps: Sequence[Tap], among: tuple[int, int], lags: int
    ) -> Tensor:
        """Return the entries of a history that each step reads, `(steps, slots, taps)`.

        Arguments:
            reader: When the reader is computed.
            source: When what it reads is computed.
            taps: Where it reads.
            among: Number of the source in the history, and how many sources it holds.
            lags: Places of the ring.
        """
        table = torch.zeros(self.steps, self.slots, len(taps), dtype=torch.int64)
        ago = [self.lag(reader, source, tap) for tap in taps]
        member, members = among
        for step, slot, row, column in self.visits(reader):
            for number, (dy, dx) in enumerate(taps):
                if source.rect.holds(row + dy, column + dx):
                    place = 1 + (step - ago[number]) % lags
                    entry = place * self.slots + (row + dy) % self.slots
                    table[step, slot, number] = entry * members + member
        return table
