"""One walk of a program along time: builds lanes and asks for columns only when needed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, fx
from torch.nn import functional
from torch.utils import _pytree as pytree

from toolkit.capture.causal.banks import Banks
from toolkit.capture.causal.lane import (
    Column,
    Known,
    Lane,
    Last,
    Merged,
    Once,
    Poison,
    Refusal,
    lazy,
)
from toolkit.capture.causal.plan import Plan
from toolkit.capture.causal.program import Program, blank, dtype_of, shape_of
from toolkit.capture.causal.sums import joined, terms_of

Rule = Callable[..., Any]


class Walk:
    """Walk a program once.

    While discovering, rules reserve states and take decisions that look at values. A frozen walk
    reads the reserved states, and its values may be symbolic.

    Arguments:
        program: The program; its first input runs along time.
        axis: The axis of time of that input.
        length: How many positions there are.
        plan: What discovery found; it is filled when not frozen.
        rules: The rule of each operator.
        frozen: Whether the plan is complete.
    """

    def __init__(
        self,
        program: Program,
        axis: int,
        length: int,
        plan: Plan,
        rules: dict[Any, Rule],
        *,
        frozen: bool,
    ) -> None:
        self.program, self.axis, self.length = program, axis, length
        self.plan, self.rules, self.frozen = plan, rules, frozen
        self.values: dict[fx.Node, Any] = {}
        self.current: dict[str, Tensor] = {}
        self.following: dict[str, Column] = {}
        self.fed: dict[Any, Tensor] = {}
        self.time = torch.zeros((), dtype=torch.int64)
        self.chunk = 0
        self.unfilled: Sequence[Tensor] = ()
        self.places: dict[int, tuple[Tensor, Tensor]] = {}
        self.old: dict[str, Tensor] = {}
        self.computed: dict[fx.Node, Tensor] = {}
        self.banks = Banks(self)
        self.by_name = {node.name: node for node in [*program.inputs, *program.nodes]}

    def run(self, newest: Column) -> None:
        """Give every node its value; nothing is computed yet.

        Arguments:
            newest: Gives the input's entry of the current time.
        """
        source, *known = self.program.inputs
        self.values[source] = Lane(source.name, self.axis, shape_of(source), lazy(newest))
        self.values.update({node: Known(node) for node in known})
        self.values.update({node: Known(node, value) for node, value in self.program.const.items()})
        for node in self.program.nodes:
            self.values[node] = self._visit(node)
        self.following.update(self.banks.pushes())

    def _visit(self, node: fx.Node) -> Any:
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), self.values.__getitem__)
        leaves = pytree.tree_leaves((args, kwargs))
        poisoned = next((leaf for leaf in leaves if isinstance(leaf, Poison)), None)
        if poisoned is not None:
            return poisoned
        if not any(isinstance(leaf, Lane | Merged | Last) for leaf in leaves):
            return Known(node)
        if any(isinstance(leaf, Last) for leaf in leaves):
            return self._last(node, args, kwargs)
        merged = any(isinstance(leaf, Merged) for leaf in leaves)
        rule = self.rules.get((Merged, node.target) if merged else node.target)
        if rule is None:
            where = " on an axis that merges time with others" if merged else ""
            return Poison(Refusal(node, f"no rule for this operator{where}"))
        try:
            return rule(self, node, *args, **kwargs)
        except Refusal as refusal:
            return Poison(refusal)

    def _last(self, node: fx.Node, args: Any, kwargs: dict[str, Any]) -> Last | Poison:
        """Apply an operator to what follows from the last position."""
        if any(isinstance(leaf, Lane | Merged) for leaf in pytree.tree_leaves(args)):
            return Poison(Refusal(node, "the last position meets a whole sequence"))

        def give(value: Any) -> Column:
            if isinstance(value, Last):
                return value.column
            if not isinstance(value, Known):
                return lambda: value
            full = blank(value.node) if value.const is None else value.const
            return self.whole(value, full)

        columns, target = pytree.tree_map(give, args), cast("Rule", node.target)

        def column() -> Any:
            return target(*pytree.tree_map(lambda now: now(), columns), **kwargs)

        return Last(lazy(column))

    def is_last(self, lane: Lane, index: int) -> bool:
        """Return whether an entry of a lane is the one of the last position."""
        return lane.origin + index % lane.length == self.length - 1

    def output(self, index: int) -> Lane:
        """Return an output.

        Raises:
            Refusal: It is not causal, or not one entry per position.
        """
        node = self.program.outputs[index]
        value = self.values[node]
        if isinstance(value, Poison):
            raise value.refusal
        if isinstance(value, Last) and shape_of(node)[1] == 1:
            newest = value.column
            return Lane(node.name, 1, shape_of(node), lazy(lambda: newest().squeeze(1)))
        if not isinstance(value, Lane):
            raise Refusal(node, "the output does not depend on the input")
        if value.length != self.length:
            raise Refusal(node, f"the output has {value.length} positions, the input {self.length}")
        if value.origin > 0:
            raise Refusal(
                self._looks_ahead(),
                f"position t of the output needs the input up to t + {value.origin}: not causal",
            )
        return value

    def _looks_ahead(self) -> fx.Node:
        """Return the first node with an entry per position that comes too late."""
        return next(
            node
            for node, value in self.values.items()
            if isinstance(value, Lane) and value.origin > 0 and value.length == self.length
        )

    def const(self, node: fx.Node, value: Any) -> Any:
        """Return a constant argument of a rule; what is no graph value is returned as it is.

        Raises:
            Refusal: The argument is only known at run time, or runs along time.
        """
        if isinstance(value, Known) and value.const is not None:
            return value.const
        if isinstance(value, Known | Lane):
            raise Refusal(node, "this argument must be a parameter or constant")
        return value

    def lane(self, node: fx.Node, axis: int, column: Column, **rest: Any) -> Lane:
        """Return a new lane, delayed to time 0 when it is full and available early."""
        made = self._noted(node, column)
        if isinstance(column, Once):
            made.lookup = column.lookup
        terms = terms_of(column)
        if terms is not None:
            single = terms.open and len(node.users) < 2
            made.terms = replace(terms, bare=self._noted(node, terms.bare), open=single)
        lane = Lane(node.name, axis, shape_of(node), made, **rest)
        early = lane.origin < 0 and lane.length == self.length
        return self.delay(lane, -lane.origin) if early else lane

    def _noted(self, node: fx.Node, column: Column) -> Once:
        """Return the column, which notes when it is computed."""

        def compute() -> Tensor:
            value: Tensor = column()
            self.computed[node] = value
            return value

        return Once(compute)

    def delay(self, lane: Lane, steps: int) -> Lane:
        """Return the lane `steps` later, from a queue."""
        if steps == 0:
            return lane
        self.reserve(lane, [steps])
        origin = lane.origin + steps
        prefix = None
        if origin < 0 and lane.prefix is not None:
            prefix = lane.prefix.narrow(lane.axis, 0, -origin)
        return replace(
            lane,
            key=f"{lane.key}@{steps}",
            column=lazy(lambda: self.window(lane, [steps]).squeeze(lane.axis)),
            origin=origin,
            prefix=prefix,
        )

    def reserve(self, lane: Lane, lags: Sequence[int]) -> None:
        """Reserve the queue that holds a lane at these lags."""
        lag = max(lags)
        if lag == 0:
            return
        if not self.frozen and lag > self.plan.lags.get(lane.key, 0):
            self.plan.lags[lane.key] = lag
            self.plan.states[lane.key] = self.queue_before(lane, lag)
        self.following[lane.key] = lambda: self._push(lane)

    def queue_before(self, lane: Lane, lag: int) -> Tensor:
        """Return what a lane held in the `lag` steps before time 0."""
        shape = list(lane.shape)
        shape[lane.axis] = lag
        queue = torch.zeros(shape, dtype=dtype_of(self.by_name[lane.key.split("@")[0]]))
        if lane.prefix is not None:
            known = lane.prefix.narrow(lane.axis, 0, min(max(0, -lane.origin), lane.prefixed))
            size = min(lag, known.shape[lane.axis])
            last = known.narrow(lane.axis, known.shape[lane.axis] - size, size)
            queue.narrow(lane.axis, lag - size, size).copy_(last)
        return queue

    def _push(self, lane: Lane) -> Tensor:
        queue, newest = self.state(lane.key), lane.column().unsqueeze(lane.axis)
        kept = queue.shape[lane.axis] - 1
        if not kept:
            return cast("Tensor", newest)
        return torch.cat([queue.narrow(lane.axis, 1, kept), newest], lane.axis)

    def window(self, lane: Lane, lags: Sequence[int]) -> Tensor:
        """Return the lane at the given lags, oldest first, along its time axis."""
        parts = []
        past = [lag for lag in lags if lag]
        if past:
            queue = self.state(lane.key)
            total = queue.shape[lane.axis]
            places = [total - lag for lag in past]
            if places == list(range(total)):
                parts.append(queue)
            elif len(places) == 1:
                parts.append(queue.narrow(lane.axis, places[0], 1))
            else:
                parts.append(queue.index_select(lane.axis, torch.tensor(places)))
        if len(past) < len(lags):
            parts.append(lane.column().unsqueeze(lane.axis))
        return torch.cat(parts, lane.axis) if len(parts) > 1 else parts[0]

    def state(self, key: str) -> Tensor:
        """Return a state before the current step."""
        return self.current[key] if self.frozen else self.plan.states[key]

    def carry(self, key: str, initial: Tensor, following: Column) -> None:
        """Reserve a state with its value before time 0 and what gives its next one."""
        if not self.frozen:
            self.plan.states[key] = initial
        self.following[key] = following

    def cache(self, lane: Lane, *, flat: bool = False) -> Callable[[], list[Tensor]]:
        """Return what gives every column of a lane up to now, at its place of the time axis.

        Later places hold zeros; their readers hide them (`hidden`). In a walk by chunks the
        columns of earlier chunks are one tensor, which is only read, and those of the current
        one another.

        Arguments:
            lane: What is kept.
            flat: Leave one axis before that of time and one behind it, as caches are carried.
        """
        key = f"{lane.key}!all"
        initial = torch.zeros(lane.shape, dtype=dtype_of(self.by_name[lane.key.split("@")[0]]))

        def filled() -> Tensor:
            newest, held = lane.column(), self.state(key)
            if self.chunk:
                # Whole rows are written, for which the runtime copies memory.
                places = self.places[held.shape[0]]
                return held.index_put(places, newest.reshape(held.shape[0], -1))
            newest = newest.unsqueeze(lane.axis)
            # Writes one place: where the runtime lends the state's memory, the rest stays as it is.
            place = self.now().reshape([1] * newest.ndim).expand(newest.shape)
            return held.scatter(lane.axis, place, newest)

        recent = lazy(filled)
        self.carry(key, initial, recent)
        if not self.frozen:
            self.plan.caches[key] = lane.axis
        before, behind = lane.shape[: lane.axis], lane.shape[lane.axis + 1 :]

        def parts() -> list[Tensor]:
            held = [self.old[key], recent()] if self.chunk else [recent()]
            if flat:
                sizes: tuple[int, ...] = (math.prod(before), -1, math.prod(behind))
            else:
                sizes = (*before, -1, *behind)
            return [part.reshape(sizes) for part in held]

        return parts

    def hidden(self) -> Tensor:
        """Return 0 at the filled places of a cache, else minus infinity, `(places,)`.

        In a walk by chunks earlier chunks come first.
        """
        if self.chunk:
            return torch.cat([*self.unfilled])
        none = torch.zeros((), dtype=torch.float64)
        return torch.where(torch.arange(self.length) <= self.now(), none, none - torch.inf)

    def over_keys(self, row: Tensor) -> Tensor:
        """Return a row over all positions, `(…, length)`, in the order of a cache's places."""
        if not self.chunk:
            return row
        whole = functional.pad(row, (0, chunked(self.length, self.chunk) - self.length))
        _, slots = next(iter(self.places.values()))
        places = torch.arange(self.chunk) + self.now() - slots.narrow(0, 0, 1)
        return torch.cat([whole, whole.index_select(-1, places)], -1)

    def now(self) -> Tensor:
        """Return the current time, an int64 scalar."""
        return self.time

    def align(self, lanes: Sequence[Lane]) -> list[Lane]:
        """Delay the early lanes so that all entries of one index are available together."""
        latest = max(lane.origin for lane in lanes)
        return [self.delay(lane, latest - lane.origin) for lane in lanes]

    def column_of(self, value: Any, lane: Lane) -> Column:
        """Return how a value meets a lane's columns when both are broadcast together."""
        if isinstance(value, Lane):
            return value.column
        if not isinstance(value, Known):
            return lambda: value
        full = blank(value.node) if value.const is None else value.const
        if not isinstance(full, Tensor):
            return lambda: full
        axis = full.ndim + lane.from_end
        if axis >= 0 and full.shape[axis] > 1:
            return self.entry_of(value, full, axis, lane.origin)
        whole = self.whole(value, full)
        return (lambda: whole().squeeze(axis)) if axis >= 0 else whole

    def entry_of(self, value: Known, full: Tensor, axis: int, origin: int) -> Column:
        """Return what gives the entry of a known sequence at the current time."""
        request = (value.node, axis, origin)
        if not self.frozen:
            self.plan.columns[request] = value
        return lambda: self.fed[request] if self.frozen else full.select(axis, 0)

    def whole(self, value: Known, full: Tensor) -> Column:
        """Return what gives a known value that does not change from step to step."""
        if value.const is not None:
            return lambda: full
        if not self.frozen:
            self.plan.wholes[value.node] = value
        return lambda: self.fed[value.node] if self.frozen else full

    def apply(
        self, node: fx.Node, op: Rule, args: Sequence[Any], kwargs: dict[str, Any], **rest: Any
    ) -> Lane:
        """Return `op` entry by entry along time, operands broadcast against one another.

        Raises:
            Refusal: The operands' times do not match.
        """
        lanes = [leaf for leaf in pytree.tree_leaves(args) if isinstance(leaf, Lane)]
        if len({lane.from_end for lane in lanes}) > 1:
            raise Refusal(node, "operands run along time on different axes")
        if len({lane.length for lane in lanes}) > 1:
            raise Refusal(node, "operands differ in length along time")
        aligned = dict(zip(lanes, self.align(lanes), strict=True))
        first = next(iter(aligned.values()))
        args = pytree.tree_map(lambda a: aligned[a] if isinstance(a, Lane) else a, tuple(args))
        columns = pytree.tree_map(lambda a: self.column_of(a, first), args)

        def compute() -> Any:
            return op(*pytree.tree_map(lambda give: give(), columns), **kwargs)

        column = self._sum(node, op, args, kwargs, columns) or compute
        prefix = self._prefix_of(node, op, args, kwargs, list(aligned.values()))
        axis = len(shape_of(node)) + first.from_end
        return self.lane(node, axis, column, origin=first.origin, prefix=prefix, **rest)

    def _sum(
        self, node: fx.Node, op: Rule, args: Any, kwargs: dict[str, Any], columns: Any
    ) -> Column | None:
        """Return a column that is added up late, where the operator adds."""
        if op is not torch.ops.aten.add.Tensor or kwargs:
            return None
        whole = shape_of(node)
        shift, kept = None, []
        axis = next(value.from_end for value in args if isinstance(value, Lane))
        for place, (value, column) in enumerate(zip(args, columns, strict=True)):
            constant = self.plan.once(
                node, f"shift {place}", partial(_shift, value, whole, -2 if axis == -1 else -1)
            )
            if constant is not None and shift is None:
                shift = constant
            elif isinstance(value, Known) or (isinstance(value, Lane) and value.shape == whole):
                kept.append(column)
            else:
                return None
        return joined(kept, shift)

    def _prefix_of(
        self,
        node: fx.Node,
        op: Rule,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        lanes: Sequence[Lane],
    ) -> Tensor | None:
        sizes = {lane.prefixed for lane in lanes}
        if sizes == {0}:
            return None
        if len(sizes) > 1:
            raise Refusal(node, "operands are padded differently")
        (size,), from_end = sizes, lanes[0].from_end

        def early(value: Any) -> Any:
            if isinstance(value, Lane):
                return value.prefix
            full = self.const(node, value)
            axis = full.ndim + from_end if isinstance(full, Tensor) else -1
            sequence = axis >= 0 and full.shape[axis] > 1
            return full.narrow(axis, 0, size) if sequence else full

        return cast("Tensor", op(*pytree.tree_map(early, tuple(args)), **kwargs))

    def reshaped(
        self, node: fx.Node, lane: Lane, axis: int, on_column: Rule, on_prefix: Rule, **rest: Any
    ) -> Lane:
        """Return a lane whose columns are rearranged but stay at their time."""
        prefix = None if lane.prefix is None else on_prefix(lane.prefix)
        return self.lane(
            node,
            axis,
            lambda: on_column(lane.column()),
            origin=lane.origin,
            prefix=prefix,
            **rest,
        )


def _shift(value: Any, whole: Sequence[int], channels: int) -> Tensor | None:
    """Return a value as a constant per channel, where it is one."""
    full = value.const if isinstance(value, Known) else value
    if isinstance(full, int | float):
        full = torch.tensor(full, dtype=torch.float64)
    if not isinstance(full, Tensor) or not full.is_floating_point() or len(whole) < 3:
        return None
    for axis in range(-full.ndim, 0):
        first = full.narrow(axis, 0, 1)
        if axis != channels and bool((full == first).all()):
            full = first
    count = whole[channels]
    if full.numel() > 1 and (full.ndim < -channels or full.shape[channels] != full.numel()):
        return None
    return full.reshape(-1).expand(count).clone()


def chunked(length: int, chunk: int) -> int:
    """Return the length in whole chunks."""
    return -(-length // chunk) * chunk
