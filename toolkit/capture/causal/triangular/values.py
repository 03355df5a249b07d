"""What a value over a vector is: sums of numbers that steps make, running sums, or a function."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from torch import fx
from torch.utils import _pytree as pytree

Ints = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]
Shape = tuple[int, ...]
Matrices = Mapping["Atoms", Any]
NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True, eq=False)
class Atoms:
    """Numbers that steps make, each at one time: the input's, or those of a function.

    Arguments:
        size: How many there are per item.
        function: What makes them; `None` for the input itself.
    """

    size: int
    function: Function | None = None


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums of weighted atoms, one per entry of a tensor.

    Arguments:
        node: The node that gives it.
        shape: Shape of the tensor.
        matrices: Per atoms their weights, `(entries, atoms)`, sparse.
        constant: What is added, `(entries,)`.
    """

    node: fx.Node
    shape: Shape
    matrices: Matrices
    constant: Floats

    def select(self, node: fx.Node, shape: Shape, places: Ints) -> Sums:
        """Return the entries at places; zero where the place is -1."""
        found = places >= 0
        picked = sparse.csr_matrix(
            (found[found].astype(float), (np.flatnonzero(found), places[found])),
            shape=(len(places), len(self.constant)),
        )
        matrices = {atoms: picked @ matrix for atoms, matrix in self.matrices.items()}
        return Sums(self._named(node), shape, matrices, picked @ self.constant)

    def mapped(self, node: fx.Node, shape: Shape, matrix: Any) -> Sums:
        """Return a constant matrix `(new entries, entries)` times this."""
        matrices = {atoms: matrix @ own for atoms, own in self.matrices.items()}
        return Sums(node, shape, matrices, matrix @ self.constant)

    def plus(self, node: fx.Node, other: Sums) -> Sums:
        """Return the sum of two of one shape."""
        matrices = dict(self.matrices)
        for atoms, matrix in other.matrices.items():
            matrices[atoms] = matrices[atoms] + matrix if atoms in matrices else matrix
        return Sums(node, self.shape, matrices, self.constant + other.constant)

    def shifted(self, node: fx.Node, constant: Floats) -> Sums:
        """Return this with a constant per entry added."""
        return Sums(self._named(node), self.shape, self.matrices, self.constant + constant)

    def scaled(self, node: fx.Node, factors: Floats) -> Sums:
        """Return this with every entry multiplied by its factor."""
        return self.mapped(self._named(node), self.shape, sparse.diags(factors).tocsr())

    def _named(self, node: fx.Node) -> fx.Node:
        """Return the node that summed: the one that a refusal names."""
        return node if self.node.op == "placeholder" else self.node


@dataclass(frozen=True, eq=False)
class Running:
    """Running sums along an axis: entries of one slot share a sum, each as far as its bound.

    Arguments:
        node: The node that gives it.
        shape: Shape of the tensor.
        terms: What is summed.
        slot_of: Slot that each term adds to, `(terms,)`.
        place_of: Position of each term along the axis, `(terms,)`.
        slot: Slot that each entry reads, `(entries,)`.
        bound: Last position that each entry sums, `(entries,)`; -1 for none.
        constant: What is added, `(entries,)`.
    """

    node: fx.Node
    shape: Shape
    terms: Sums
    slot_of: Ints
    place_of: Ints
    slot: Ints
    bound: Ints
    constant: Floats

    def select(self, node: fx.Node, shape: Shape, places: Ints) -> Running:
        """Return the entries at places; zero where the place is -1."""
        found = places >= 0
        del node
        return Running(
            self.node,
            shape,
            self.terms,
            self.slot_of,
            self.place_of,
            self.slot[places],
            np.where(found, self.bound[places], -1),
            np.where(found, self.constant[places], 0.0),
        )

    def shifted(self, node: fx.Node, constant: Floats) -> Running:
        """Return this with a constant per entry added."""
        del node
        return Running(
            self.node,
            self.shape,
            self.terms,
            self.slot_of,
            self.place_of,
            self.slot,
            self.bound,
            self.constant + constant,
        )


@dataclass(frozen=True, eq=False)
class Function:
    """An operator on every entry alone.

    Arguments:
        node: The node that gives it.
        shape: Shape of the tensor.
        target: The operator.
        args: Its arguments: values of this shape, `Table` and plain numbers.
        kwargs: Its other arguments, likewise.
    """

    node: fx.Node
    shape: Shape
    target: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def select(self, node: fx.Node, shape: Shape, places: Ints) -> Function:
        """Return the entries at places, none of which may be -1."""
        return self._select(node, shape, places, {})

    def _select(self, node: fx.Node, shape: Shape, places: Ints, memo: dict[int, Any]) -> Function:
        def pick(leaf: Any) -> Any:
            if not isinstance(leaf, Value | Table):
                return leaf
            if id(leaf) not in memo:
                memo[id(leaf)] = (
                    leaf._select(node, shape, places, memo)  # noqa: SLF001  (of its own class)
                    if isinstance(leaf, Function)
                    else leaf.select(node, shape, places)
                )
            return memo[id(leaf)]

        args, kwargs = pytree.tree_map(pick, (self.args, dict(self.kwargs)))
        return Function(self.node, shape, self.target, args, kwargs)

    def leaves(self) -> Iterator[Sums | Running | Table]:
        """Yield every sum and table that the function reads, each once."""
        seen: set[int] = set()
        pending: list[Any] = [self]
        while pending:
            value = pending.pop()
            if id(value) in seen:
                continue
            seen.add(id(value))
            if isinstance(value, Function):
                pending += pytree.tree_leaves((value.args, dict(value.kwargs)))
            elif isinstance(value, Sums | Running | Table):
                yield value


@dataclass(frozen=True, eq=False)
class Table:
    """Constants, one per entry.

    Arguments:
        values: `(entries,)`, of any element type.
    """

    values: Any

    def select(self, node: fx.Node, shape: Shape, places: Ints) -> Table:
        """Return the entries at places."""
        del node, shape
        return Table(self.values[places])


Value = Sums | Running | Function
