"""Search a recording for loops: runs of alike nodes, whose data flow is then verified."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import fx

from toolkit.capture.record import Recording, guard
from toolkit.capture.repeat import Body, structure, weight

aten = torch.ops.aten
SMALL = 64
"""Constants of up to so many numbers may differ between iterations."""
UNROLLED = 320
"""Loops of up to so many nodes over all iterations stay unrolled: that runs faster."""
FEW = 8
UNROLLED_OF_FEW = 1000
"""So do loops of up to so many nodes that have few iterations."""
MIN_ITERATIONS = 3
LONG = 16
_GRAM = 6
_PERIODS = 48
_ROTATIONS = 12
_SIZED = frozenset(
    {
        aten.arange.default,
        aten.arange.start,
        aten.arange.start_step,
        aten.empty.memory_format,
        aten.expand.default,
        aten.eye.default,
        aten.eye.m,
        aten.full.default,
        aten.new_full.default,
        aten.new_ones.default,
        aten.new_zeros.default,
        aten.ones.default,
        aten.repeat.default,
        aten.reshape.default,
        aten.view.default,
        aten.zeros.default,
    }
)


def is_unrolled(executed: int, count: int) -> bool:
    """Return whether a loop of `count` iterations that executes so many nodes stays unrolled."""
    return executed <= (UNROLLED_OF_FEW if count <= FEW else UNROLLED)


@dataclass(frozen=True, slots=True)
class Run:
    """Nodes `start` to `end`, each labelled like the one a period later."""

    start: int
    period: int
    end: int
    doubled: bool = False

    @property
    def count(self) -> int:
        """Whole periods."""
        return (self.end - self.start) // self.period


def find_runs(codes: Sequence[int]) -> list[Run]:
    """Return all runs, long ones with the shortest period first, then by what they save."""
    last: dict[tuple[int, ...], int] = {}
    votes: Counter[int] = Counter()
    for position in range(len(codes) - _GRAM + 1):
        gram = tuple(codes[position : position + _GRAM])
        if gram in last:
            votes[position - last[gram]] += 1
        last[gram] = position
    runs = [run for period, _ in votes.most_common(_PERIODS) for run in _with_period(codes, period)]

    def order(run: Run) -> tuple[int, int, int]:
        saved = run.end - run.start - run.period
        return (0, run.period, -saved) if run.count >= LONG else (1, -saved, run.period)

    return sorted(runs, key=order)


def _with_period(codes: Sequence[int], period: int) -> Iterable[Run]:
    start, stop = 0, len(codes) - period
    for position in range(stop + 1):
        if position < stop and codes[position] == codes[position + period]:
            continue
        if position - start >= period:
            yield Run(start, period, position + period)
        start = position + 1


class Recorded:
    """The nodes that depend on the inputs, in order, with equal codes for alike ones."""

    def __init__(self, recording: Recording, nodes: list[fx.Node]) -> None:
        self.recording, self.nodes = recording, nodes
        self.position = {node: place for place, node in enumerate(nodes)}
        self.references = [_references(node) for node in nodes]
        self.replaced: dict[fx.Node, fx.Node] = {}
        self._known: dict[Any, int] = {}
        self._fixed: dict[fx.Node, int] = {}
        self.codes = [self._code(self._label(node)) for node in nodes]
        self._weights = [0, *accumulate(map(weight, nodes))]

    def weight(self, run: Run) -> int:
        """Return how many operators a run executes."""
        return self._weights[run.end] - self._weights[run.start]

    def _code(self, label: Any) -> int:
        return self._known.setdefault(label, len(self._known))

    def _label(self, node: fx.Node) -> Any:
        if node.target is guard:
            return (guard, self._leaf(node.args[0]))
        return (node.target, self._leaf(node.args), self._leaf(node.kwargs))

    def _leaf(self, value: Any) -> Any:
        if isinstance(value, fx.Node):
            if value in self.recording.fixed:
                return self.fixed_label(value)
            return value if value.op == "placeholder" else "node"
        if isinstance(value, list | tuple):
            return tuple(map(self._leaf, value))
        if isinstance(value, dict):
            return tuple((key, self._leaf(item)) for key, item in value.items())
        if isinstance(value, Body):
            return self._code(structure(value))
        return repr(value)

    def fixed_label(self, node: fx.Node) -> int:
        """Return a code for what fixed values must share to stand in the same place."""
        if node not in self._fixed:
            self._fixed[node] = self._code(self._fixed_label(node))
        return self._fixed[node]

    def _fixed_label(self, node: fx.Node) -> Any:
        if self.is_small(node):
            return ("small", node.meta["shape"], node.meta["dtype"])
        if node.op == "get_attr":
            fill = node.target in self.recording.fills
            return ("fill", node.meta["shape"]) if fill else node
        return self._label(node)

    def is_small(self, node: fx.Node) -> bool:
        """Return whether a fixed value may be stored once per iteration."""
        if node.target in self.recording.fills or "shape" not in node.meta or self._is_sized(node):
            return False
        own = node.meta["shape"][node.meta.get("stacks", 0) :]
        return torch.Size(own).numel() <= SMALL

    def are_equal(self, column: Sequence[fx.Node]) -> bool:
        """Return whether fixed values are computed alike from equal constants."""
        first, *others = dict.fromkeys(column)
        if first.op != "call_function":
            constants = self.recording.constants
            return all(
                other.op == "get_attr"
                and self.is_small(other)
                and torch.equal(constants[str(first.target)], constants[str(other.target)])
                for other in others
            )
        return all(self._label(other) == self._label(first) for other in others) and all(
            map(self.are_equal, zip(*map(_references, column), strict=True))
        )

    def _is_sized(self, node: fx.Node) -> bool:
        """Return whether a size that may move with the inputs' reaches a fixed value."""
        if "sized" not in node.meta:
            node.meta["sized"] = node.target in _SIZED or any(
                self._is_sized(item) for item in node.all_input_nodes
            )
        return bool(node.meta["sized"])


def _references(node: fx.Node) -> list[fx.Node]:
    """Return the nodes that a node reads, as often as it does."""
    found: list[fx.Node] = []
    work: list[Any] = [node.kwargs, node.args]
    while work:
        value = work.pop()
        if isinstance(value, fx.Node):
            found.append(value)
        elif isinstance(value, list | tuple):
            work += reversed(value)
        elif isinstance(value, dict):
            work += reversed(value.values())
    return found


@dataclass(frozen=True, slots=True)
class Source:
    """Where an iteration gets one argument.

    Arguments:
        kind: `outer`, `inner`, `carried`, `stack` or `call`.
        value: The node; the offset in the segment; the slot; the nodes per iteration, for both.
        parts: A call's own arguments.
    """

    kind: str
    value: Any
    parts: tuple[Source, ...] = ()


@dataclass(slots=True)
class Segments:
    """A verified loop.

    Arguments:
        start: Position of its first node.
        period: Nodes per iteration.
        count: Iterations.
        slots: Per carried value, the offset of what makes it and its initial value.
        sources: Per offset and argument, where it comes from.
        extras: Offsets of what is used after the loop.
        condition: Offset of the guard that ends the loop, or −1.
    """

    start: int
    period: int
    count: int
    slots: dict[tuple[int, fx.Node], int]
    sources: list[list[Source]]
    extras: list[int]
    condition: int = -1

    @property
    def end(self) -> int:
        """Position behind its last node."""
        return self.start + self.period * self.count


def segments_of(sequence: Recorded, run: Run) -> Segments | None:
    """Return the loop in a run, or nothing."""
    end = _ending(sequence, run)
    if end is not None:
        count = (end - run.start) // run.period
        for skipped in (0, 1):
            if count - skipped >= 2:
                start = end - (count - skipped) * run.period
                found = _verified(sequence, start, run.period, count - skipped)
                if found and not _has_stacks(found):
                    found.condition = run.period - 1
                    return found
        return None
    if is_unrolled(sequence.weight(run), run.count):
        return None
    for rotation in _rotations(sequence, run):
        for skipped in (0, 1):
            start = run.start + rotation + skipped * run.period
            count = (run.end - start) // run.period
            if count >= MIN_ITERATIONS and (found := _verified(sequence, start, run.period, count)):
                return found
    return None


def extended(sequence: Recorded, found: Segments) -> Segments:
    """Return the loop with the iteration in front of it, where only initial values differ there.

    A loop that starts from constants has a first iteration that looks like no other.
    """
    start, period = found.start - found.period, found.period
    if start < 0 or not all(
        _skeleton(first) == _skeleton(second)
        for first, second in zip(
            sequence.nodes[start : found.start],
            sequence.nodes[found.start : found.start + period],
            strict=True,
        )
    ):
        return found
    longer = _verified(sequence, start, period, found.count + 1)
    if longer is None or (found.condition >= 0 and _has_stacks(longer)):
        return found
    longer.condition = found.condition
    return longer


def _skeleton(node: fx.Node) -> Any:
    """Return a node without what it reads."""
    values = (node.args[:1], {}) if node.target is guard else (node.args, node.kwargs)
    return node.target, fx.node.map_arg(values, lambda _: None)


def _ending(sequence: Recorded, run: Run) -> int | None:
    """Return the position behind a guard that saw one value in all iterations but the last."""
    seen: dict[int, list[tuple[int, Any]]] = {}
    for position in range(run.start, run.end):
        node = sequence.nodes[position]
        if node.target is guard:
            offset = (position - run.start) % run.period
            seen.setdefault(offset, []).append((position, node.args[1]))
    for reads in seen.values():
        values = [value for _, value in reads]
        ends = len(values) > 1 and all(value is values[0] for value in values[:-1])
        if ends and {values[0], values[-1]} == {False, True}:
            return reads[-1][0] + 1
    return None


def _rotations(sequence: Recorded, run: Run) -> list[int]:
    """Return where segments may begin, the places that the fewest values cross first."""
    low, period = run.start + run.period, run.period
    high = min(low + period, run.end)
    furthest: dict[int, int] = {}
    for position in range(low, min(run.end, high + period)):
        for reference in sequence.references[position]:
            made = sequence.position.get(reference, -1)
            if low <= made < high:
                furthest[made] = position
    width = [0] * period
    for made, used in furthest.items():
        for cut in range(made + 1, min(used, made + period) + 1):
            width[(cut - low) % period] += 1
    return sorted(range(period), key=lambda cut: (width[cut], cut))[:_ROTATIONS]


def _has_stacks(found: Segments) -> bool:
    """Return whether an iteration has constants of its own."""
    return any(_stacks(part) for line in found.sources for part in line)


def _stacks(source: Source) -> bool:
    return source.kind == "stack" or any(map(_stacks, source.parts))


def _verified(sequence: Recorded, start: int, period: int, count: int) -> Segments | None:
    """Return the data flow of `count` segments, or nothing where they are not one loop."""
    found = Segments(start, period, count, {}, [], [])
    firsts = range(start, start + count * period, period)
    for offset in range(period):
        columns = zip(*(sequence.references[first + offset] for first in firsts), strict=True)
        line = [_source(sequence, found, column) for column in columns]
        if None in line:
            return None
        found.sources.append(line)  # type: ignore[arg-type]
    for offset, initial in found.slots:
        if not _alike(sequence.nodes[start + offset], initial):
            return None
    extras = _used_after(sequence, found)
    if extras is None:
        return None
    found.extras = [offset for offset in extras if all(offset != made for made, _ in found.slots)]
    return found


def _alike(node: fx.Node, other: fx.Node) -> bool:
    return "shape" in node.meta and all(
        node.meta.get(key) == other.meta.get(key) for key in ("shape", "dtype")
    )


def _source(sequence: Recorded, found: Segments, column: tuple[fx.Node, ...]) -> Source | None:
    """Return where one argument comes from, given what it is in every iteration."""
    start, period = found.start, found.period
    first = column[0]
    if all(node in sequence.recording.fixed for node in column):
        return _fixed_source(sequence, column)
    places = [sequence.position.get(node, -1) for node in column]
    if all(node is first for node in column) and places[0] < start:
        return Source("outer", first)
    steps = [place - start - turn * period for turn, place in enumerate(places)]
    if 0 <= steps[0] < period and all(step == steps[0] for step in steps):
        return Source("inner", steps[0])
    offset = steps[1] + period
    crosses = 0 <= offset < period and all(step == steps[1] for step in steps[1:])
    if crosses and places[0] < start:
        return Source("carried", found.slots.setdefault((offset, first), len(found.slots)))
    return None


def _fixed_source(sequence: Recorded, column: tuple[fx.Node, ...]) -> Source | None:
    first = column[0]
    if first.target in sequence.recording.fills or sequence.are_equal(column):
        return Source("outer", first)
    if all(map(sequence.is_small, column)):
        return Source("stack", column)
    labels = {sequence.fixed_label(node) for node in column}
    if first.op == "get_attr" or len(labels) > 1:
        return None
    parts = []
    for arguments in zip(*map(_references, column), strict=True):
        part = _fixed_source(sequence, arguments)
        if part is None:
            return None
        parts.append(part)
    return Source("call", column, tuple(parts))


def _used_after(sequence: Recorded, found: Segments) -> list[int] | None:
    """Return the offsets whose last value is used after the loop; nothing if earlier ones are."""
    last = found.end - found.period
    used = []
    for position in range(found.start, found.end):
        outside = [
            user
            for user in sequence.nodes[position].users
            if not found.start <= sequence.position.get(user, found.end) < found.end
        ]
        if outside and position < last:
            return None
        if outside:
            if "shape" not in sequence.nodes[position].meta:
                return None
            used.append(position - last)
    return used
