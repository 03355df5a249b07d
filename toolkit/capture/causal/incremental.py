"""A program made incremental along one axis."""

from __future__ import annotations

import contextlib
import copy
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from toolkit.capture.causal.lane import Lane
from toolkit.capture.causal.plan import Plan, apart, make_banks
from toolkit.capture.causal.program import Program, blank, double_by_default, evaluate, shape_of
from toolkit.capture.causal.rules import table
from toolkit.capture.causal.walk import Walk

# Columns ask for one another, some three calls deep per node.
DEEPEST = 200_000


class Incremental:
    """What one step along an axis takes, computes and carries on.

    Arguments:
        program: The program; its first input runs along the axis.
        axis: The axis of that input.
        demand: Outputs that must exist step by step; the others may be computed at the end.

    Raises:
        Refusal: A demanded output cannot be computed step by step.
    """

    def __init__(self, program: Program, axis: int, demand: Sequence[int] = (0,)) -> None:
        self.program, self.axis, self.demand = program, axis, tuple(demand)
        self.length = shape_of(program.inputs[0])[axis]
        self.plan = Plan()
        with double_by_default(), torch.no_grad(), _deep():
            self._discover()

    @property
    def predicts(self) -> str:
        """Which position an output is for, by what it reads."""
        return "next" if self.plan.current_first else "this"

    def blank_column(self) -> Tensor:
        """Return zeros like the input's column."""
        return blank(self.program.inputs[0]).select(self.axis, 0)

    def known(self, *context: Tensor) -> tuple[Tensor, ...]:
        """Return known sequences, one entry a step, then known values, first states, far queues.

        Arguments:
            context: The inputs beside the first.
        """
        given = dict(zip(self.program.inputs[1:], context, strict=True))
        value = evaluate(self.program, given)
        tables = [_late(value(node), axis, start) for node, axis, start in self.plan.columns]
        wholes = [value(node) for node in self.plan.wholes]
        queues = [far.past.queue.clone() for far in self.plan.far]
        return (*tables, *wholes, *self.plan.states.values(), *queues)

    def by_chunks(self, sizes: Sequence[int]) -> Incremental:
        """Return the same with the past terms apart that reach back further than a chunk.

        Arguments:
            sizes: Positions of the chunks, the longest first.
        """
        other = copy.copy(self)
        other.plan = apart(self.plan, sizes)
        return other

    @property
    def tables(self) -> int:
        """How many known sequences are read one entry a step."""
        return len(self.plan.columns)

    @property
    def wholes(self) -> int:
        """How many values known at run time are read whole."""
        return len(self.plan.wholes)

    def step(self, x: Tensor | None, time: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        """Return the demanded outputs' columns and the next states.

        Arguments:
            x: The input's column.
            time: The position, an int64 scalar.
            rest: States, entries of the known sequences, known values.
        """
        walk = self.prepared(time, rest)
        with _deep():
            walk.run(lambda: x)
            outputs = [walk.output(index).column() for index in self.demand]
            return (*outputs, *self.next_states(walk))

    def draw(
        self,
        choose: Callable[[Tensor], tuple[Tensor, Tensor]],
        x: Tensor,
        time: Tensor,
        *rest: Tensor,
        stacked: Sequence[fx.Node] = (),
        chunk: int = 0,
    ) -> tuple[Tensor, ...]:
        """Return the category, the new input's column, the next states and stacked columns.

        Last, where some past terms are computed once per chunk, the columns that they read.

        Arguments:
            choose: The first output's column to the category and the input that stands for it.
            x: The newest input's column; read only where outputs predict the next position.
            time: The position, an int64 scalar.
            rest: States, entries of the known sequences, known values; by chunks also the
                which
                places of earlier chunks and of this one are hidden (`Walk.hidden`), for each of
                the caches' numbers of rows these and the position within the chunk once per row,
                and what earlier chunks left in each cache. Last, where some past terms are
                computed once per chunk, these one by one.
            stacked: Nodes whose columns are returned too.
            chunk: Positions of a chunk; 0 for none.
        """
        walk = self.prepared(time, rest, chunk)
        drawn: list[tuple[Tensor, Tensor]] = []

        def newest() -> Tensor:
            drawn.append(choose(walk.output(self.demand[0]).column()))
            return drawn[0][1]

        with _deep():
            if self.plan.current_first:
                walk.run(lambda: x)
                fresh = newest()
            else:
                walk.run(newest)
                fresh = walk.values[self.program.inputs[0]].column()
            states = self.next_states(walk)
            columns = [walk.values[node].column() for node in stacked]
            if self.plan.far:
                columns += walk.banks.give()
        return (drawn[0][0], fresh, *states, *columns)

    def prepared(self, time: Tensor, rest: Sequence[Tensor], chunk: int = 0) -> Walk:
        """Return a frozen walk that reads the given states and known entries."""
        walk, plan = self._walk(frozen=True), self.plan
        given = iter(rest)
        walk.time = time
        walk.current = {key: next(given) for key in plan.states}
        walk.fed = {request: next(given) for request in [*plan.columns, *plan.wholes]}
        if chunk:
            walk.chunk, walk.unfilled = chunk, [next(given), next(given)]
            walk.places = {rows: (next(given), next(given)) for rows in plan.rows}
            walk.old = {key: next(given) for key in plan.caches}
        if plan.far:
            walk.banks.take(given)
        return walk

    def next_states(self, walk: Walk) -> list[Tensor]:
        """Return what the states hold after the step."""
        return [walk.following[key]() for key in self.plan.states]

    def axis_of(self, node: fx.Node) -> int:
        """Return the axis of time of a computed node."""
        walk = self._walk(frozen=True)
        walk.run(self.blank_column)
        lane: Lane = walk.values[node]
        return lane.axis

    def _walk(self, *, frozen: bool) -> Walk:
        return Walk(self.program, self.axis, self.length, self.plan, table(), frozen=frozen)

    def _discover(self) -> None:
        """Walk once to reserve states, then again to see which are really read."""
        seen = []

        def newest() -> Tensor:
            seen.append(True)
            return self.blank_column()

        walk = self._walk(frozen=False)
        walk.run(newest)
        for index in self.demand:
            walk.output(index).column()
        plan = self.plan
        plan.current_first = bool(seen)
        walk = self._walk(frozen=True)
        walk.current = _Recorded(self._blank_state)
        walk.fed = _Recorded(_blank_known)
        walk.run(self.blank_column)
        for index in self.demand:
            walk.output(index).column()
        kept = _closure(walk)
        plan.states = {key: plan.states[key] for key in kept if key in plan.states}
        plan.caches = {key: plan.caches[key] for key in plan.states if key in plan.caches}
        make_banks(plan, [node for node in plan.pasts if f"past:{node.name}" in kept])
        plan.columns = {key: value for key, value in plan.columns.items() if key in walk.fed}
        plan.wholes = {key: value for key, value in plan.wholes.items() if key in walk.fed}
        plan.computed = tuple(node for node in walk.computed if _is_whole(walk.values[node], node))

    def _blank_state(self, key: str) -> Tensor:
        if key in self.plan.states:
            return self.plan.states[key]
        past = next(p for node, p in self.plan.pasts.items() if key == f"past:{node.name}")
        return past.weight.new_zeros(past.queue.shape[1], past.weight.shape[1])


def _closure(walk: Walk) -> list[str]:
    """Ask for the next value of every state that was read, and of those that these read."""
    kept: list[str] = []
    while fresh := [key for key in walk.current if key not in kept]:
        kept += fresh
        for key in fresh:
            walk.following[key]()
    return kept


def _is_whole(lane: Any, node: fx.Node) -> bool:
    """Return whether the node's columns, stacked, are its whole tensor."""
    plain = isinstance(lane, Lane) and lane.key == node.name and lane.origin == 0
    return plain and lane.prefix is None and lane.keys is None


def _late(known: Tensor, axis: int, start: int) -> Tensor:
    """Return a known sequence as one entry per step, late by `start`."""
    first = known.movedim(axis, 0)
    if not start:
        return first
    return torch.cat([first.new_zeros(start, *first.shape[1:]), first])[: first.shape[0]]


class _Recorded(dict[Any, Tensor]):
    """Values that are made when first asked for; the keys tell what was asked."""

    def __init__(self, make: Callable[[Any], Tensor]) -> None:
        super().__init__()
        self.make = make

    def __missing__(self, key: Any) -> Tensor:
        self[key] = self.make(key)
        return self[key]


def _blank_known(request: Any) -> Tensor:
    if isinstance(request, tuple):
        node, axis, _ = request
        return blank(node).select(axis, 0)
    return blank(request)


@contextlib.contextmanager
def _deep() -> Iterator[None]:
    """Allow as many nested calls as a deep network has nodes."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, DEEPEST))
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)
