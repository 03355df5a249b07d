"""Which wavefront a network over pictures allows, and what each of its steps reads and keeps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from toolkit.capture.causal.lane import Refusal
from toolkit.capture.causal.program import evaluate
from toolkit.capture.causal.wave.field import Plane, Request, Stream, dtype
from toolkit.capture.causal.wave.geometry import Place, Rect, Tap, Wave

# How many weights are read in the time that an operator takes to start.
WEIGHTS = 1500

Logits = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Piece:
    """Earlier entries of one stream that readers need.

    Arguments:
        readers: The readers, which are computed together.
        source: The stream.
        taps: Where.
    """

    readers: tuple[Stream, ...]
    source: Stream
    taps: tuple[Tap, ...]


@dataclass(frozen=True, eq=False)
class History:
    """What the last steps gave of streams of equal size, and who reads it.

    Its tensor has the shape `(batch * places, slots * members * channels)`.

    Arguments:
        members: The streams.
        lags: How many steps it holds.
        pieces: What is read of it.
    """

    members: tuple[Stream, ...]
    lags: int
    pieces: tuple[Piece, ...]

    @property
    def channels(self) -> int:
        """Numbers of a column."""
        return math.prod(self.members[0].rest)

    @property
    def places(self) -> int:
        """One that stays zero, and one per step."""
        return 1 + self.lags


class Layout:
    """A network over pictures laid out along a wavefront.

    Arguments:
        plane: Its streams.
        least: Least number of steps by which a row runs behind the row above.
        own: Whether logits may read their own pixel, as those of colours do.

    Raises:
        Refusal: A pixel's logits read the pixel itself or later ones.
    """

    def __init__(self, plane: Plane, *, least: int = 1, own: bool = False) -> None:
        self.plane, self.output = plane, plane.output()
        self.needed = self._reachable()
        self.rects = self._demanded()
        skew, phases = self._least(least)
        self.places = {stream: Place(phase, self.rects[stream]) for stream, phase in phases.items()}
        self.wave = self._wave(skew)
        if self.output in self._after_drawing() and not own:
            raise Refusal(self.output.node, "a pixel's logits read the pixel itself")
        self.histories = self._histories()
        self.requests = self._requests()
        self.masks = self._masks()
        # Not while tracing, which would forget that a table is filled.
        self.entries = {
            request.reader: self._entries(plane.streams[request.reader])
            for request in self.requests
            if request.reader >= 0
        }

    def _reachable(self) -> list[Stream]:
        """Return the streams that the output needs, in order."""
        needed, pending = {self.output, self.plane.source}, [self.output]
        while pending:
            for stream, _ in pending.pop().reads:
                if stream not in needed:
                    needed.add(stream)
                    pending.append(stream)
        return [stream for stream in self.plane.streams if stream in needed]

    def _demanded(self) -> dict[Stream, Rect]:
        """Return which entries of each stream the output needs."""
        rects = {stream: Rect(0, 0, 0, 0) for stream in self.needed}
        rects[self.output] = self.output.domain
        rects[self.plane.source] = self.plane.source.domain
        for reader in reversed(self.needed):
            for stream, taps in reader.reads:
                for tap in taps:
                    found = rects[reader].moved(tap).cut(stream.domain)
                    rects[stream] = rects[stream].joined(found)
        return rects

    def _least(self, skew: int) -> tuple[int, dict[Stream, int]]:
        """Return the least skew that orders all pixels, and each stream's phase."""
        most = skew + self.plane.source.domain.right
        for reader in self.needed:
            for stream, taps in reader.reads:
                most += max([0, *(dx + 1 for _, dx in self.used(reader, stream, taps))])
        for found in range(skew, most):
            if (phases := self._phases(found)) is not None:
                return found, phases
        raise Refusal(
            self.output.node, "a pixel's logits read later pixels, or an operator acts on padding"
        )

    def used(self, reader: Stream, stream: Stream, taps: Sequence[Tap]) -> tuple[Tap, ...]:
        """Return the taps that find an entry anywhere."""
        rect = self.rects[reader]
        return tuple(tap for tap in taps if not rect.moved(tap).cut(stream.domain).empty)

    def inside(self, reader: Stream, stream: Stream, tap: Tap) -> bool:
        """Return whether a tap finds an entry for every pixel."""
        found = self.rects[reader].moved(tap)
        return found.cut(stream.domain) == found

    def _phases(self, skew: int) -> dict[Stream, int] | None:
        """Return each stream's phase, as late as its readers allow; nothing if it is too late."""
        latest: dict[Stream, int] = {self.output: 0}
        for reader in reversed(self.needed):
            for stream, taps in reader.reads:
                for dy, dx in self.used(reader, stream, taps):
                    # In the step that computes it, an entry is read by its own row alone.
                    bound = latest[reader] - dx - skew * dy - int(dy != 0)
                    latest[stream] = min(bound, latest.get(stream, bound))
        if latest.setdefault(self.plane.source, 0) < 0:
            return None
        latest[self.plane.source] = 0
        return latest

    def _after_drawing(self) -> set[Stream]:
        """Return what a step can only compute once its pixels are drawn."""
        late = {self.plane.source}
        for reader in self.needed:
            for stream, taps in reader.reads:
                if stream in late and self.here(reader, stream, taps) is not None:
                    late.add(reader)
        return late

    def share(self) -> float:
        """Return what a wavefront costs, of what pixel by pixel inside row by row costs.

        Pixel by pixel runs what reads the pixel's own row, with the taps of that row; the rest
        runs once per row. Operators and the weights that they read count.
        """
        alone, pending = {self.output}, [self.output]
        while pending:
            reader = pending.pop()
            for stream, taps in reader.reads:
                own = any(not dy for dy, _ in self.used(reader, stream, taps))
                if own and stream not in alone:
                    alone.add(stream)
                    pending.append(stream)
        rect = self.rects[self.plane.source]
        wave = sum(1 + stream.weights * stream.taps() / WEIGHTS for stream in self.needed)
        pixel = sum(1 + stream.weights * stream.taps(0) / WEIGHTS for stream in alone)
        return self.wave.steps * wave / (rect.bottom * rect.right * pixel)

    def _wave(self, skew: int) -> Wave:
        source = self.rects[self.plane.source]
        widest = max(rect.width for rect in self.rects.values())
        tallest = max(rect.bottom for rect in self.rects.values())
        starts = [
            place.phase + skew * place.rect.top + place.rect.left for place in self.places.values()
        ]
        return Wave(
            skew=skew,
            slots=min(tallest, -(-widest // skew)),
            first=min(0, *starts),
            last=(source.bottom - 1) * skew + source.right,
        )

    def lag(self, reader: Stream, source: Stream, tap: Tap) -> int:
        """Return how many steps before the reader's an entry was computed."""
        return self.wave.lag(self.places[reader], self.places[source], tap)

    def here(self, reader: Stream, source: Stream, taps: Sequence[Tap]) -> Tap | None:
        """Return the tap that reads an entry in the step that computes it."""
        used = self.used(reader, source, taps)
        return next((tap for tap in used if not self.lag(reader, source, tap)), None)

    def _histories(self) -> list[History]:
        readers: dict[Any, dict[Stream, None]] = {}
        for reader in self.needed:
            for source, taps in reader.reads:
                used = self.used(reader, source, taps)
                past = tuple(tap for tap in used if self.lag(reader, source, tap))
                if past:
                    readers.setdefault((source, past, self.places[reader]), {})[reader] = None
        pieces = [Piece(tuple(found), source, past) for (source, past, _), found in readers.items()]
        longest: dict[Stream, int] = {}
        for piece in pieces:
            lags = [self.lag(piece.readers[0], piece.source, tap) for tap in piece.taps]
            longest[piece.source] = max([*lags, longest.get(piece.source, 0)])
        groups: dict[Any, list[Piece]] = {}
        for piece in pieces:
            # What is read soon is not kept as long as what is read a row later.
            kept = (longest[piece.source] - 1).bit_length()
            key = (math.prod(piece.source.rest), dtype(piece.source), kept)
            groups.setdefault(key, []).append(piece)
        return [
            History(
                members=tuple(dict.fromkeys(piece.source for piece in group)),
                lags=max(longest[piece.source] for piece in group),
                pieces=tuple(group),
            )
            for group in groups.values()
        ]

    def _masks(self) -> dict[Any, int]:
        """Return which mask each read beyond an edge takes, of those in the step that computes it.

        The same mask serves several reads: `self.active` holds them.
        """
        self.active: list[Tensor] = []
        found: dict[Any, int] = {}
        for reader in self.needed:
            for stream, taps in reader.reads:
                for tap in self.used(reader, stream, taps):
                    if self.lag(reader, stream, tap) or self.inside(reader, stream, tap):
                        continue
                    table = self.wave.finds(self.places[reader], tap, stream.domain)
                    same = (i for i, held in enumerate(self.active) if torch.equal(held, table))
                    number = next(same, len(self.active))
                    found[reader, stream, tap] = number
                    self.active += [table] * (number == len(self.active))
        return found

    def _requests(self) -> list[Request]:
        """Return the known values that are read: those with an entry per pixel first."""
        found = dict.fromkeys(request for stream in self.needed for request in stream.requests)
        return sorted(found, key=lambda request: request.reader < 0)

    def _entries(self, reader: Stream) -> Tensor:
        """Return which entry each slot of each step computes, `(steps * slots,)`."""
        return self.wave.entries(self.places[reader], reader.domain).flatten()

    @property
    def wholes(self) -> int:
        """How many known values are the same in every step."""
        return sum(request.reader < 0 for request in self.requests)

    @property
    def tables(self) -> int:
        """How many known values have an entry per step: masks first."""
        return len(self.active) + sum(request.reader >= 0 for request in self.requests)

    def reads(self) -> list[Tensor]:
        """Return the entries that each step reads, `(steps, slots * taps)`, per piece."""
        return [
            self.wave.reads(
                self.places[piece.readers[0]],
                self.places[piece.source],
                piece.taps,
                (history.members.index(piece.source), len(history.members)),
                history.lags,
            ).flatten(1)
            for history in self.histories
            for piece in history.pieces
        ]

    def writes(self) -> list[Tensor]:
        """Return per history the place that each step writes, `(steps,)`."""
        return [self.wave.writes(history.lags) for history in self.histories]

    def known(self, batch: int, *context: Tensor) -> tuple[Tensor, ...]:
        """Return known values as columns of every step or of all steps, then first histories.

        Arguments:
            batch: The batch.
            context: The inputs beside the picture.
        """
        given = dict(zip(self.plane.program.inputs[1:], context, strict=True))
        value_of = evaluate(self.plane.program, given)
        values = [
            self._columns(request, value_of(request.node), batch) for request in self.requests
        ]
        blanks = [
            torch.zeros(
                batch * history.places,
                self.wave.slots * len(history.members) * history.channels,
                dtype=dtype(history.members[0]),
            )
            for history in self.histories
        ]
        masks = [table.repeat(1, batch).unsqueeze(2) for table in self.active]
        return (*masks, *values, *blanks)

    def _columns(self, request: Request, value: Tensor, batch: int) -> Tensor:
        """Return a known value as `(items, …)`, or as `(steps, items, …)`."""
        slots = self.wave.slots
        if request.reader < 0:
            inner = value.squeeze(request.axes)
            per_item = inner.ndim == request.rank and inner.shape[0] == batch
            return inner.repeat_interleave(slots, 0) if per_item else inner
        table = self.entries[request.reader]
        front = value.movedim(request.axes, (0, 1)).flatten(0, 1).index_select(0, table)
        rest = front.shape[1:]
        front = front.reshape(self.wave.steps, slots, *[1] * (request.rank - len(rest)), *rest)
        front = front.transpose(1, 2)
        front = front.expand(-1, batch, *front.shape[2:])
        return front.reshape(self.wave.steps, batch * slots, *front.shape[3:])

    def step(
        self,
        choose: Callable[[Logits, Tensor], tuple[Tensor, Tensor]],
        blank: Tensor,
        *rest: Tensor,
    ) -> tuple[Tensor, ...]:
        """Return what is chosen and the next histories.

        Arguments:
            choose: Takes a function from pixels to their logits, and blank pixels; returns what
                is chosen and the pixels.
            blank: Pixels of which the shape matters alone, `(items, …)`.
            rest: The step's entries of `reads()`, the rows of the histories that it writes, one
                per item of the batch; the histories, the known values.
        """
        count = len(self.histories)
        first = sum(len(history.pieces) for history in self.histories)
        reads, rest = rest[:first], rest[first:]
        writes, states, known = rest[:count], rest[count : 2 * count], rest[2 * count :]
        gathered = _gathered(self, reads, states)

        def logits(pixels: Tensor) -> Tensor:
            return Step(self, pixels, gathered, known).value(self.output)

        chosen, pixels = choose(logits, blank)
        step = Step(self, pixels, gathered, known)
        following = [
            step.pushed(*given) for given in zip(self.histories, states, writes, strict=True)
        ]
        return (chosen, *following)


def _gathered(
    layout: Layout, reads: Sequence[Tensor], states: Sequence[Tensor]
) -> dict[Stream, list[tuple[Piece, Tensor]]]:
    """Return per reader its earlier entries, `(items, taps * channels)`."""
    found: dict[Stream, list[tuple[Piece, Tensor]]] = {}
    given = iter(reads)
    for history, state in zip(layout.histories, states, strict=True):
        batch = state.shape[0] // history.places
        entries = state.reshape(batch, -1, history.channels)
        for piece in history.pieces:
            # Apart: what a product reads lies together, and no split moves it once more.
            column = entries.index_select(1, next(given))
            column = column.reshape(batch * layout.wave.slots, len(piece.taps) * history.channels)
            for reader in piece.readers:
                found.setdefault(reader, []).append((piece, column))
    return found


class Step:
    """The columns of one step.

    Arguments:
        layout: The layout.
        pixels: The pixels of this step.
        gathered: Earlier entries by reader.
        known: The known values.
    """

    def __init__(
        self,
        layout: Layout,
        pixels: Tensor,
        gathered: dict[Stream, list[tuple[Piece, Tensor]]],
        known: Sequence[Tensor],
    ) -> None:
        self.layout, self.gathered = layout, gathered
        masks = len(layout.active)
        self.active = known[:masks]
        self.given = dict(zip(layout.requests, known[masks:], strict=True))
        self.values = {layout.plane.source: pixels}

    def value(self, stream: Stream) -> Tensor:
        """Return a stream's column."""
        pending = [stream]
        while pending:
            top = pending[-1]
            missing = [
                source
                for source, taps in top.reads
                if source not in self.values and self.layout.here(top, source, taps) is not None
            ]
            if not missing:
                pending.pop()
                if top not in self.values:
                    self.values[top] = top.compute(self)
            pending += missing
        return self.values[stream]

    def column(self, stream: Stream, tap: Tap, reader: Stream) -> Tensor:
        """Return a stream's entry at a tap of the reader."""
        if not self.layout.lag(reader, stream, tap):
            return self._here(reader, stream, tap)
        found = next(
            column
            for piece, column in self.gathered[reader]
            if piece.source is stream and piece.taps == (tap,)
        )
        return found if len(stream.rest) == 1 else found.reshape(-1, *stream.rest)

    def past(self, reader: Stream) -> tuple[Tensor | None, Sequence[Tap]]:
        """Return a convolution's earlier entries side by side, and their taps."""
        if reader not in self.gathered:
            return None, ()
        ((piece, column),) = self.gathered[reader]
        return column, piece.taps

    def here(
        self, reader: Stream, source: Stream, taps: Sequence[Tap]
    ) -> tuple[Tap, Tensor] | None:
        """Return the entry that a convolution reads in the step that computes it, and its tap."""
        tap = self.layout.here(reader, source, taps)
        return None if tap is None else (tap, self._here(reader, source, tap))

    def _here(self, reader: Stream, source: Stream, tap: Tap) -> Tensor:
        """Return an entry of this step, zero where there is none."""
        value = self.value(source)
        number = self.layout.masks.get((reader, source, tap))
        if number is None:
            return value
        active = self.active[number]
        return torch.where(active.reshape(-1, *[1] * (value.ndim - 1)), value, 0)

    def known(self, request: Request) -> Tensor:
        """Return a known value."""
        return self.given[request]

    def pushed(self, history: History, state: Tensor, rows: Tensor) -> Tensor:
        """Return a history one step on, its oldest place written anew."""
        columns = [
            value if value.ndim == 2 else value.reshape(-1, history.channels)
            for value in map(self.value, history.members)
        ]
        new = torch.cat(columns, 1) if len(columns) > 1 else columns[0]
        return state.index_put((rows,), new.reshape(-1, state.shape[1]))
