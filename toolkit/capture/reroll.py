"""Find the loops of a recording: Python unrolled them, whoever wrote them.

A loop is a run of consecutive, isomorphic segments between which only carried values cross. It
becomes one `repeat` node, which the next pass sees as an ordinary node, so that nested loops are
found from the inside out. Nothing is approximated: data flow is verified for every segment.
"""

from __future__ import annotations

import operator
from dataclasses import replace
from typing import Any

import torch
from torch import fx
from torch.utils import _pytree as pytree

from toolkit.capture.declared import roll_declared
from toolkit.capture.record import Guard, Recording
from toolkit.capture.repeat import Body, like, repeat
from toolkit.capture.segments import (
    MIN_ITERATIONS,
    Recorded,
    Segments,
    Source,
    extended,
    find_runs,
    segments_of,
)

aten = torch.ops.aten


def reroll(recording: Recording) -> int:
    """Put, in place, one `repeat` node for every loop; return how many loops there are.

    Guards inside a loop stay in the recording's list, once per value, on the body's node; one that
    ends the loop becomes its condition and leaves the list.
    """
    _fixed_first(recording)
    for node in recording.graph.nodes:
        if node.target in (aten.view.default, aten._unsafe_view.default):  # noqa: SLF001
            node.target = aten.reshape.default
    done = roll_declared(recording)
    while found := _round(recording):
        done += found
    return done


def _fixed_first(recording: Recording) -> None:
    """Move what no input reaches in front of everything else."""
    graph = recording.graph
    anchor = next(
        (n for n in graph.nodes if n not in recording.fixed and n.op == "call_function"), None
    )
    if anchor is not None:
        for node in [n for n in graph.nodes if n in recording.fixed]:
            anchor.prepend(node)


def _round(recording: Recording) -> int:
    """Roll the innermost loops that do not overlap; return how many."""
    nodes = [
        node
        for node in recording.graph.nodes
        if node.op == "call_function" and node not in recording.fixed
    ]
    sequence = Recorded(recording, nodes)
    taken: list[tuple[int, int]] = []
    rolled = []
    runs = find_runs(sequence.codes)
    while runs:
        run = runs.pop(0)
        if any(run.start < end and begin < run.end for begin, end in taken):
            continue
        segments = segments_of(sequence, run)
        if segments is None:
            if run.count >= 2 * MIN_ITERATIONS and not run.doubled:
                runs.insert(0, replace(run, period=2 * run.period, doubled=True))
            continue
        longer = extended(sequence, segments)
        if not any(longer.start < end and begin < longer.end for begin, end in taken):
            segments = longer
        taken.append((segments.start, segments.end))
        rolled.append(segments)
    for segments in rolled:
        _Roller(sequence, segments).roll()
    return len(rolled)


class _Roller:
    """Put a `repeat` node in the place of a verified loop."""

    def __init__(self, sequence: Recorded, segments: Segments) -> None:
        self.sequence, self.segments = sequence, segments
        self.recording = sequence.recording
        self.outside = self.recording.graph
        self.inside = fx.Graph()
        self.first = sequence.nodes[segments.start]
        self.made: list[fx.Node] = []
        self.outer: dict[fx.Node, fx.Node] = {}
        self.stacked: dict[tuple[fx.Node, ...], fx.Node] = {}
        self.calls: dict[tuple[fx.Node, ...], fx.Node] = {}

    def roll(self) -> None:
        """Write the body, the node and what follows it."""
        found = self.segments
        self.carried = [
            like(self.inside.placeholder(f"carried_{slot}"), initial)
            for slot, (_, initial) in enumerate(found.slots)
        ]
        for offset, sources in enumerate(found.sources):
            self.made.append(self._copy(self.sequence.nodes[found.start + offset], sources))
        after = tuple(self._within(self.made[offset]) for offset, _ in found.slots)
        extras = tuple(self._within(self.made[offset]) for offset in found.extras)
        stop: tuple[fx.Node, ...] = ()
        if found.condition >= 0:
            call = self.made[found.condition]
            (tensor, _) = call.args
            stop = (self._within(tensor),)  # type: ignore[arg-type]
            call.graph.erase_node(call)
        self.inside.output((after, extras, stop))
        self._order_placeholders()
        self._replace(settles=not self.stacked and not stop)

    def _copy(self, node: fx.Node, sources: list[Source]) -> fx.Node:
        """Write a node into the body; in front of the loop, where every iteration does the same."""
        values = [self._value(source) for source in sources]
        invariant = all(value.graph is self.outside for value in values)
        if not invariant:
            values = [self._within(value) for value in values]
        graph = self.outside if invariant else self.inside
        remaining = iter(values)
        args, kwargs = pytree.tree_map_only(
            fx.Node, lambda _: next(remaining), (node.args, node.kwargs)
        )
        with self.outside.inserting_before(self.first):
            copy = graph.call_function(node.target, args, kwargs)  # type: ignore[arg-type]
        copy.meta = dict(node.meta)
        return copy

    def _value(self, source: Source) -> Any:
        """Return an argument: a node of the body, or one outside."""
        if source.kind == "outer":
            return self._now(source.value)
        if source.kind == "carried":
            return self.carried[source.value]
        if source.kind == "inner":
            return self.made[source.value]
        if source.kind == "stack":
            return self._slice(source.value)
        if source.value not in self.calls:
            self.calls[source.value] = self._copy(source.value[0], list(source.parts))
        return self.calls[source.value]

    def _now(self, node: fx.Node) -> fx.Node:
        return self.sequence.replaced.get(node, node)

    def _within(self, value: fx.Node) -> fx.Node:
        """Return a value's node in the body."""
        if value.graph is self.inside:
            return value
        if value not in self.outer:
            self.outer[value] = like(self._placeholder(f"outer_{len(self.outer)}"), value)
        return self.outer[value]

    def _slice(self, column: tuple[fx.Node, ...]) -> fx.Node:
        if column not in self.stacked:
            self.stacked[column] = like(self._placeholder(f"slice_{len(self.stacked)}"), column[0])
        return self.stacked[column]

    def _placeholder(self, name: str) -> fx.Node:
        with self.inside.inserting_before(next(iter(self.inside.nodes))):
            return self.inside.placeholder(name)

    def _order_placeholders(self) -> None:
        """Put the placeholders in the order in which the loop's arguments stand."""
        order = [*self.carried, *self.outer.values(), *self.stacked.values()]
        for node in reversed(order):
            head = next(iter(self.inside.nodes))
            if head is not node:
                head.prepend(node)

    def _replace(self, *, settles: bool) -> None:
        found, nodes = self.segments, self.sequence.nodes
        until = bool(nodes[found.end - 1].args[1]) if found.condition >= 0 else True
        body = Body(self.inside, len(self.carried), settles, until, found.count)
        count = None if found.condition >= 0 else found.count
        last = found.end - found.period
        shapes = tuple(
            (nodes[last + offset].meta["shape"], nodes[last + offset].meta["dtype"])
            for offset in found.extras
        )
        initial = tuple(self._now(node) for _, node in found.slots)
        stacks = tuple(map(self._stack, self.stacked))
        self._move_guards()
        before = self._before() if found.condition >= 0 and not shapes else None
        with self.outside.inserting_before(self.first):
            arguments: Any = (body, count, initial, tuple(self.outer), stacks, shapes, before)
            loop = self.outside.call_function(repeat, arguments)
            items = [
                like(
                    self.outside.call_function(operator.getitem, (loop, place)), nodes[last + made]
                )
                for place, made in enumerate([*(made for made, _ in found.slots), *found.extras])
            ]
        loop.meta = {key: value for key, value in self.first.meta.items() if "stack" in key}
        results = dict(zip((made for made, _ in found.slots), items, strict=False))
        results.update(zip(found.extras, items[len(self.carried) :], strict=True))
        for made, item in results.items():
            nodes[last + made].replace_all_uses_with(item)
            self.sequence.replaced[nodes[last + made]] = item
        for node in reversed(nodes[found.start : found.end]):
            self.outside.erase_node(node)

    def _stack(self, column: tuple[fx.Node, ...]) -> fx.Node:
        """Write all iterations' own constants as one, among what no input reaches."""
        with self.outside.inserting_before(
            next(
                node
                for node in self.outside.nodes
                if node.op == "call_function" and node not in self.recording.fixed
            )
        ):
            node = self.outside.call_function(aten.stack.default, (list(column),))
        node.meta["shape"] = (len(column), *column[0].meta["shape"])
        node.meta["dtype"] = column[0].meta["dtype"]
        node.meta["stacks"] = column[0].meta.get("stacks", 0) + 1
        self.recording.fixed.add(node)
        return node

    def _move_guards(self) -> None:
        """Let the guards on the loop's nodes stand on the body's, once per value."""
        found = self.segments
        condition = self.sequence.nodes[found.end - 1] if found.condition >= 0 else None
        ended = (
            {
                self.sequence.nodes[found.start + (turn + 1) * found.period - 1].args[0]
                for turn in range(found.count)
            }
            if condition is not None
            else set()
        )
        kept: dict[Any, Guard] = {}
        for entry in self.recording.guards:
            place = self.sequence.position.get(entry.node, -1)
            if entry.node in ended:
                continue
            if found.start <= place < found.end:
                node = self.made[(place - found.start) % found.period]
                entry = replace(entry, node=node)
                kept.setdefault((node, str(entry.value), entry.file, entry.line), entry)
            else:
                kept[len(kept)] = entry
        self.recording.guards[:] = kept.values()

    def _before(self) -> fx.Node | None:
        """Return the condition in front of the first iteration, its guard removed."""
        found, sequence = self.segments, self.sequence
        place = found.start - 1
        if place < 0 or sequence.codes[place] != sequence.codes[found.end - 1]:
            return None
        call = sequence.nodes[place]
        if call._erased or call.args[1] is sequence.nodes[found.end - 1].args[1]:  # noqa: SLF001
            return None
        node = call.args[0]
        entry = next((item for item in self.recording.guards if item.node is node), None)
        if entry is not None:
            self.recording.guards.remove(entry)
        self.outside.erase_node(call)
        return node  # type: ignore[return-value]
