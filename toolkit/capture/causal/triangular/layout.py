"""When each number over a vector is made, and which tables of weights every step reads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from toolkit.capture.causal.lane import Refusal
from toolkit.capture.causal.triangular.values import (
    NEVER,
    Atoms,
    Floats,
    Function,
    Ints,
    Running,
    Sums,
    Table,
    Value,
)

# Numbers that stand where a step makes fewer than others; the first at which a function is finite.
FILLS = (0.0, 0.5, 1.0, 2.0)


@dataclass(frozen=True, slots=True)
class Place:
    """A tensor in a step: table `number`, or what port `number` reads."""

    kind: str
    number: int


@dataclass(slots=True)
class Port:
    """Where a step reads sums of atoms, `(batch, width)`.

    Arguments:
        width: How many it reads at once.
        state: Number of the sums that are carried; -1 for none.
        index: Number of the table of places in them; -1 where all are read in order.
        bias: Number of the table of constants; -1 for none.
        here: Per block of the same step its number and the table of weights; -1 for the identity.
    """

    width: int
    state: int = -1
    index: int = -1
    bias: int = -1
    here: list[tuple[int, int]] = field(default_factory=list)


@dataclass(slots=True)
class Block:
    """Atoms that a step makes, `(batch, width)`, and the sums that they are added to.

    Arguments:
        width: How many.
        function: Operator, arguments and keywords, nested, with `Place` for tensors.
        adds: Per carried sums its number and the table of weights.
    """

    width: int
    function: Any
    adds: list[tuple[int, int]] = field(default_factory=list)


@dataclass(slots=True)
class Layout:
    """The steps over a vector: ports, blocks in order, tables of every step, first sums.

    Block 0 is the input: its numbers are made at the end of a step, and added to sums there.

    Arguments:
        steps: How many.
        ports: Where sums are read.
        blocks: What is made.
        tables: One entry a step along the first axis.
        initial: First values of the carried sums, `(size,)` each.
        output: Number of the port that is the result.
        constant: What is added to the result, `(steps, width)`.
    """

    steps: int
    ports: list[Port] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    tables: list[Tensor] = field(default_factory=list)
    initial: list[Tensor] = field(default_factory=list)
    output: int = 0
    constant: Tensor = field(default_factory=lambda: torch.zeros(0))


def lay_out(source: Atoms, times: Ints, steps: int, output: Sums) -> Layout:
    """Lay out the steps that give an output.

    Arguments:
        source: The input's atoms.
        times: Step from which each is known, `(atoms,)`.
        steps: How many steps there are.
        output: Its first axis but the batch's, of one item, is the step at which it is read.

    Raises:
        Refusal: A number is needed at a step at which it cannot be known.
    """
    return _Layouter(source, times, steps).run(output)


class _Layouter:
    """What is known of a layout while it is made."""

    def __init__(self, source: Atoms, times: Ints, steps: int) -> None:
        self.steps, self.source = steps, source
        self.layout = Layout(steps)
        self.times: dict[Atoms, Ints] = {source: times}
        self.members: dict[Atoms, Ints] = {}
        self.numbers: dict[Atoms, int] = {}

    def run(self, output: Sums) -> Layout:
        width = math.prod(output.shape) // self.steps
        own = np.repeat(np.arange(self.steps), width)
        order = _in_order(self.source, output)
        self._demand(output, own)
        for atoms in reversed(order):
            if atoms.function is not None:
                for leaf in atoms.function.leaves():
                    if not isinstance(leaf, Table):
                        self._demand(leaf, self.times[atoms])
        for number, atoms in enumerate(order):
            self.numbers[atoms] = number
            self.members[atoms] = _members(self.times[atoms], self.steps)
            self.layout.blocks.append(Block(self.members[atoms].shape[1], None))
        for atoms in order:
            if atoms.function is not None:
                self._block(atoms, atoms.function)
        members = np.arange(self.steps * width).reshape(self.steps, width)
        constant = torch.from_numpy(np.ascontiguousarray(output.constant)).reshape(members.shape)
        self.layout.constant = constant.clone()
        bare = output.shifted(output.node, -output.constant)
        self.layout.output = self._port(bare, own, members, 0.0)
        return self.layout

    def _demand(self, value: Sums | Running, when: Ints) -> None:
        """Note that a value's entries are read at steps, and by then what they are sums of."""
        if isinstance(value, Sums):
            for atoms, matrix in value.matrices.items():
                rows, columns = _entries(matrix)
                self._need(value.node, atoms, columns, when[rows])
            return
        terms = value.terms
        earliest = _earliest(value, when)
        for atoms, matrix in terms.matrices.items():
            rows, columns = _entries(matrix)
            self._need(
                value.node, atoms, columns, earliest[value.slot_of[rows], value.place_of[rows]]
            )

    def _need(self, node: fx.Node, atoms: Atoms, which: Ints, when: Ints) -> None:
        if atoms is self.source:
            late = np.flatnonzero(self.times[atoms][which] > when)
            if len(late):
                step, given = int(when[late[0]]), int(self.times[atoms][which[late[0]]])
                raise Refusal(
                    node, f"position {step} reads the input at position {given - 1}: not causal"
                )
            return
        times = self.times.setdefault(atoms, np.full(atoms.size, NEVER))
        np.minimum.at(times, which, when)

    def _block(self, atoms: Atoms, function: Function) -> None:
        block = self.layout.blocks[self.numbers[atoms]]
        members = self.members[atoms]
        if not members.size:
            return
        fill = _fill(function) if (members < 0).any() else 0.0
        memo: dict[int, Any] = {}

        def placed(leaf: Any) -> Any:
            if not isinstance(leaf, Value | Table):
                return leaf
            if id(leaf) not in memo:
                memo[id(leaf)] = self._placed(leaf, self.times[atoms], members, fill, placed)
            return memo[id(leaf)]

        block.function = placed(function)

    def _placed(self, leaf: Any, when: Ints, members: Ints, fill: float, placed: Any) -> Any:
        if isinstance(leaf, Function):
            args, kwargs = pytree.tree_map(placed, (leaf.args, dict(leaf.kwargs)))
            return (leaf.target, args, kwargs)
        if isinstance(leaf, Table):
            spread = leaf.values[np.where(members < 0, 0, members)]
            return Place("table", self._table(torch.from_numpy(np.ascontiguousarray(spread))))
        return Place("port", self._port(leaf, when, members, fill))

    def _table(self, values: Tensor) -> int:
        self.layout.tables.append(values)
        return len(self.layout.tables) - 1

    def _port(self, value: Sums | Running, when: Ints, members: Ints, fill: float) -> int:
        """Add where entries `members`, `(steps, width)`, are read, all at the steps `when`."""
        made = _Port(self, value, when, members, fill)
        self.layout.ports.append(made.port())
        return len(self.layout.ports) - 1


class _Port:
    """One port while it is made."""

    def __init__(
        self,
        layouter: _Layouter,
        value: Sums | Running,
        when: Ints,
        members: Ints,
        fill: float,
    ) -> None:
        self.layouter, self.value, self.when = layouter, value, when
        self.members, self.fill = members, fill
        self.layout = layouter.layout
        self.padded = members < 0
        self.made = Port(members.shape[1])

    def port(self) -> Port:
        if isinstance(self.value, Running):
            self._running(self.value)
        else:
            self._plain(self.value)
        return self.made

    def _plain(self, value: Sums) -> None:
        carried: list[tuple[Atoms, Any]] = []
        for atoms, matrix in value.matrices.items():
            rows, columns = _entries(matrix)
            read = np.isin(rows, self.members)
            rows, columns = rows[read], columns[read]
            if not len(rows):
                continue
            if (self.layouter.times[atoms][columns] == self.when[rows]).all():
                self._here(atoms, matrix)
            else:
                carried.append((atoms, matrix))
        slots = self.members[~self.padded]
        if not carried:
            self._bias(value.constant)
            return
        slot_of = np.full(len(value.constant), -1)
        slot_of[slots] = np.arange(len(slots))
        places = np.where(self.padded, len(slots), slot_of[self.members])
        self._carried(carried, slot_of, places, value.constant[slots])

    def _running(self, value: Running) -> None:
        self._check_order(value)
        used = np.unique(value.slot)
        size = int(value.slot_of.max()) + 1
        number = np.full(size, -1)
        number[used] = np.arange(len(used))
        first = np.zeros(len(used))
        entries = self.members[~self.padded]
        # One constant per slot is where the sums start; others are added when they are read.
        first[number[value.slot[entries]]] = value.constant[entries]
        if not (first[number[value.slot[entries]]] == value.constant[entries]).all():
            first = np.zeros(len(used))
            self._bias(value.constant)
        slot_of = number[value.slot_of]
        places = np.where(self.padded, len(used), number[value.slot[self.members]])
        self._carried(list(value.terms.matrices.items()), slot_of, places, first)

    def _check_order(self, value: Running) -> None:
        """Refuse where a slot holds more, when an entry reads it, than the entry sums."""
        size, length = int(value.slot_of.max()) + 1, int(value.place_of.max()) + 1
        after = np.full((size, length + 1), NEVER)
        for atoms, matrix in value.terms.matrices.items():
            rows, columns = _entries(matrix)
            times = self.layouter.times[atoms][columns]
            np.minimum.at(after, (value.slot_of[rows], value.place_of[rows]), times)
        after = np.minimum.accumulate(after[:, ::-1], axis=1)[:, ::-1]
        read = self.members[~self.padded]
        if (after[value.slot[read], value.bound[read] + 1] <= self.when[read]).any():
            raise Refusal(value.node, "the running sum is read after later terms have joined it")

    def _carried(
        self, carried: Sequence[tuple[Atoms, Any]], slot_of: Ints, places: Ints, first: Floats
    ) -> None:
        """Carry sums, `slot_of` of each row of the matrices, and read them at `places`."""
        layout, padding = self.layout, int(self.padded.any())
        self.made.state = len(layout.initial)
        layout.initial.append(torch.from_numpy(np.append(first, [self.fill] * padding)))
        size = len(first) + padding
        for atoms, matrix in carried:
            rows, columns = _entries(matrix)
            table = self._weights(atoms, size)
            step, place = _where(self.layouter.members[atoms], atoms.size)
            slots, known = slot_of[rows], step[columns] >= 0
            kept = (slots >= 0) & known
            at = (step[columns][kept], place[columns][kept], slots[kept])
            np.add.at(table, at, matrix.data[kept])
            if atoms is self.layouter.source:
                # The input is added when it is made, at the end of the step before.
                table = np.concatenate([table[1:], np.zeros_like(table[:1])])
            block = layout.blocks[self.layouter.numbers[atoms]]
            block.adds.append((self.made.state, self._table(torch.from_numpy(table))))
        if not (places.shape[1] == size and (places == np.arange(size)).all()):
            self.made.index = self._table(torch.from_numpy(places.astype(np.int64)))

    def _weights(self, atoms: Atoms, size: int) -> Floats:
        return np.zeros((self.layouter.steps, self.layouter.members[atoms].shape[1], size))

    def _here(self, atoms: Atoms, matrix: Any) -> None:
        """Read atoms of the same step."""
        members = self.layouter.members[atoms]
        rows, columns = _entries(matrix)
        step, place = _where(members, atoms.size)
        steps, target = _where(self.members, matrix.shape[0])
        table = self._weights(atoms, self.members.shape[1])
        kept = steps[rows] >= 0
        at = (step[columns][kept], place[columns][kept], target[rows][kept])
        table[at] = matrix.data[kept]
        number = -1
        same = members.shape == self.members.shape
        if not (same and (table == np.eye(members.shape[1])).all()):
            laid = table.swapaxes(1, 2) if table.shape[2] == 1 else table
            number = self._table(torch.from_numpy(np.ascontiguousarray(laid)))
        self.made.here.append((self.layouter.numbers[atoms], number))

    def _bias(self, constant: Floats) -> None:
        values = np.where(self.padded, self.fill, constant[np.where(self.padded, 0, self.members)])
        if values.any() or not self.made.here:
            self.made.bias = self._table(torch.from_numpy(np.ascontiguousarray(values)))

    def _table(self, values: Tensor) -> int:
        self.layout.tables.append(values)
        return len(self.layout.tables) - 1


def _entries(matrix: Any) -> tuple[Ints, Ints]:
    """Return rows and columns of a sparse matrix's weights, in the order of its data."""
    matrix.eliminate_zeros()
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    return rows, matrix.indices.astype(np.int64)


def _in_order(source: Atoms, output: Sums | Running) -> list[Atoms]:
    """Return all atoms that an output needs, each after those that it needs itself."""
    found: dict[Atoms, None] = {source: None}
    pending: list[tuple[Atoms, bool]] = [(atoms, False) for atoms in _read(output)]
    while pending:
        atoms, done = pending.pop()
        if atoms in found:
            continue
        if done or atoms.function is None:
            found[atoms] = None
            continue
        pending.append((atoms, True))
        for leaf in atoms.function.leaves():
            if not isinstance(leaf, Table):
                pending += [(item, False) for item in _read(leaf)]
    return list(found)


def _read(value: Sums | Running) -> list[Atoms]:
    return list((value.terms if isinstance(value, Running) else value).matrices)


def _earliest(value: Running, when: Ints) -> Ints:
    """Return, per slot and place, the first step at which a sum that reaches there is read."""
    size, length = int(value.slot_of.max()) + 1, int(value.place_of.max()) + 1
    first = np.full((size, length + 1), NEVER)
    np.minimum.at(first, (value.slot, value.bound), when)
    return np.asarray(np.minimum.accumulate(first[:, ::-1], axis=1)[:, ::-1])


def _members(times: Ints, steps: int) -> Ints:
    """Return the atoms of each step in order, `(steps, most)`, -1 where there are fewer."""
    used = np.flatnonzero(times < steps)
    order = used[np.argsort(times[used], kind="stable")]
    counts = np.bincount(times[order], minlength=steps)
    table = np.full((steps, int(counts.max(initial=0))), -1)
    starts = np.cumsum(counts) - counts
    table[times[order], np.arange(len(order)) - starts[times[order]]] = order
    return table


def _where(members: Ints, size: int) -> tuple[Ints, Ints]:
    """Return the step and the place of each entry in a table of members; -1 for none."""
    step, place = np.full(size, -1), np.full(size, -1)
    rows, columns = np.nonzero(members >= 0)
    step[members[rows, columns]], place[members[rows, columns]] = rows, columns
    return step, place


def _fill(function: Function) -> float:
    """Return a number at which a function is finite.

    Raises:
        Refusal: None of a few is one.
    """
    for fill in FILLS:
        if torch.isfinite(_at(function, fill)).all():
            return fill
    raise Refusal(function.node, f"the function is finite at none of {FILLS}")


def _at(function: Function, fill: float) -> Tensor:
    memo: dict[int, Any] = {}

    def value(leaf: Any) -> Any:
        if not isinstance(leaf, Value | Table):
            return leaf
        if id(leaf) not in memo:
            if isinstance(leaf, Function):
                args, kwargs = pytree.tree_map(value, (leaf.args, dict(leaf.kwargs)))
                memo[id(leaf)] = leaf.target(*args, **kwargs)
            else:
                fills = torch.full((1,), fill, dtype=torch.float64)
                own = torch.as_tensor(leaf.values[:1]) if isinstance(leaf, Table) else fills
                memo[id(leaf)] = own
        return memo[id(leaf)]

    found: Tensor = torch.as_tensor(value(function)).double()
    return found
