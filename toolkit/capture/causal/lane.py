"""What a value of the walked graph is: known, a lane along time, or refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx

from toolkit.capture.finish import place
from toolkit.core.errors import ExportError

Column = Callable[[], Any]


class Refusal(ExportError):
    """A node that cannot be computed one position at a time.

    Arguments:
        node: The node.
        reason: Why.
    """

    def __init__(self, node: fx.Node, reason: str) -> None:
        super().__init__(
            f"{node.name} ({node.target}): {reason}",
            where=place(node.meta) or f"operator {node.target}",
            next_step="make the network causal along its order, or sample it without this layer",
        )
        self.node, self.reason = node, reason


@dataclass(frozen=True, eq=False)
class Known:
    """A value that does not depend on the sampled input.

    Arguments:
        node: The node that gives it.
        const: Its value; `None` where it is only known at run time.
    """

    node: fx.Node
    const: Any = None


@dataclass(frozen=True, eq=False)
class Lane:
    """A tensor along time: entry j of `axis` belongs to time j + `origin`.

    Arguments:
        key: Name of the stream whose past may be kept.
        axis: The axis of time.
        shape: Shape of the whole tensor.
        column: Gives the entry of the current time, without the axis of time.
        origin: Time of the first entry; above zero for one that is only available later.
        prefix: The first entries, where they are known (padding, a start vector).
        keys: A second axis along time, that of attention scores; the column holds the cache.
        masked: Whether scores were proved to show no future.
    """

    key: str
    axis: int
    shape: tuple[int, ...]
    column: Column
    origin: int = 0
    prefix: Tensor | None = None
    keys: int | None = None
    masked: bool = False

    @property
    def length(self) -> int:
        """Entries along time."""
        return self.shape[self.axis]

    @property
    def from_end(self) -> int:
        """The axis of time, counted from the end."""
        return self.axis - len(self.shape)

    @property
    def prefixed(self) -> int:
        """Entries of the prefix."""
        return 0 if self.prefix is None else self.prefix.shape[self.axis]

    @property
    def start(self) -> int:
        """First time that is computed and not known."""
        return self.origin + self.prefixed


@dataclass(frozen=True, eq=False)
class Parts(Lane):
    """The pieces of a lane that was split on another axis.

    Arguments:
        dim: The axis that was split.
        pieces: The pieces of the column.
        early: The pieces of the prefix.
        removes: Whether the split removes its axis.
        bounds: First entry and number of entries of each piece.
    """

    dim: int = 0
    pieces: Column = tuple
    early: Sequence[Tensor] = ()
    removes: bool = False
    bounds: Sequence[tuple[int, int]] = ()


@dataclass(frozen=True, eq=False)
class Merged:
    """A tensor one axis of which merges time with others, as `(outer, time, inner)`.

    It comes of `x.view(batch * time, channels)` and goes back by another view.

    Arguments:
        axis: The merged axis.
        shape: Shape of the whole tensor.
        length: Entries along time.
        outer: Entries before time in the merged axis.
        inner: Entries after time in the merged axis.
        column: The entry of the current time; its merged axis holds `outer * inner`.
        origin: Time of the first entry.
    """

    axis: int
    shape: tuple[int, ...]
    length: int
    outer: int
    inner: int
    column: Column
    origin: int = 0


@dataclass(frozen=True, eq=False)
class Last:
    """What follows from the last position alone: of every prefix, the newest.

    It has no axis that runs along time, so every operator acts on its column as on itself.

    Arguments:
        column: The value at the current time.
    """

    column: Column


@dataclass(frozen=True, eq=False)
class Ended(Lane):
    """A recurrent layer's results, and its states after the last position.

    Arguments:
        ends: What gives each state, `(layers, batch, hidden)`.
    """

    ends: Sequence[Column] = ()


@dataclass(frozen=True, eq=False)
class Poison:
    """A refused value: harmless until something that must be computed step by step asks for it."""

    refusal: Refusal


class Once:
    """A column that is computed when it is first asked for, and once.

    Arguments:
        compute: Gives it.
        terms: What it is a sum of, for readers that add it up in another way.
        lookup: Row numbers and table, where it is a row of a constant table.
    """

    def __init__(
        self, compute: Column, terms: Any = None, lookup: tuple[Column, Tensor] | None = None
    ) -> None:
        self.compute, self.terms, self.lookup = compute, terms, lookup
        self.memo: list[Any] = []

    def __call__(self) -> Any:
        """Return the column."""
        if not self.memo:
            self.memo.append(self.compute())
        return self.memo[0]


def lazy(compute: Column) -> Once:
    """Return a function that computes once; one that does is returned as it is."""
    return compute if isinstance(compute, Once) else Once(compute)


def drop(dim: int, axis: int) -> int:
    """Return what a dimension is called once an axis has been removed."""
    return dim - (dim > axis)
