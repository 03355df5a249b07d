"""Make one program out of recordings at several sizes: what moved becomes a function of the sizes.

Whatever the code did with a size (`len(x)`, `zeros(7)`, `reshape(7 * 8, 4)`) shows up as an integer
that differs between recordings. One that moves linearly with a dimension, or with the product of
several, becomes that expression. Anything else that differs (a float, a literal, an operator) was
computed in Python from values or sizes: a graph would keep it for ever, so it is refused.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from toolkit.capture.finish import place
from toolkit.capture.record import Recording, guard
from toolkit.capture.repeat import Body, children, lend
from toolkit.core.errors import ExportError

aten = torch.ops.aten
RESHAPES = (aten.view.default, aten.reshape.default, aten._unsafe_view.default)  # noqa: SLF001
ADVICE = "compute it with tensor operators from the inputs, or export with fixed sizes (--static)"

Sizes = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Size:
    """An integer as a polynomial of the dynamic dimensions.

    Arguments:
        terms: Factors by the dimensions that they multiply.
        constant: What is added.
    """

    terms: tuple[tuple[tuple[str, ...], int], ...]
    constant: int


def unify(recordings: Sequence[Recording], sizes: Sequence[Sizes]) -> None:
    """Put, in place, expressions of the sizes beside the integers of the first that moved.

    Arguments:
        recordings: The first at some sizes; then, per dimension, one with only that size changed.
        sizes: The size of every dimension, per recording.

    Raises:
        ExportError: The recordings differ in more than sizes.
    """
    _unify(recordings, [each.graph for each in recordings], sizes)


def _unify(
    recordings: Sequence[Recording], graphs: Sequence[fx.Graph], sizes: Sequence[Sizes]
) -> None:
    columns = list(zip(*(list(graph.nodes) for graph in graphs), strict=False))
    for node, *same in columns:
        if not all(_alike(node, twin) for twin in same):
            raise _branched(recordings, node)
    if any(len(graph.nodes) != len(columns) for graph in graphs):
        raise _branched(recordings, columns[-1][0])
    first, *others = recordings
    merger = _Merger({node: tuple(same) for node, *same in columns}, sizes)
    for node, *same in columns:
        if node.op == "get_attr":
            _compare_constants(first, others, node, same)
        elif node.target is not guard:
            merger.moved = False
            arguments = merger.merge(
                node, (node.args, node.kwargs), [(twin.args, twin.kwargs) for twin in same]
            )
            if merger.moved:
                node.meta["sizes"] = arguments
        for inner in zip(*map(children, (node, *same)), strict=True):
            _unify(recordings, inner, sizes)


def _alike(node: fx.Node, twin: fx.Node) -> bool:
    return node.op == twin.op and (node.target == twin.target or node.op == "get_attr")


def _branched(recordings: Sequence[Recording], node: fx.Node) -> ExportError:
    first, *others = recordings
    reads = [
        mine
        for other in others
        for mine, theirs in zip(first.guards, other.guards, strict=False)
        if mine.value != theirs.value
    ]
    where = reads[0].place if reads else place(node.meta)
    return ExportError(
        "the Python code takes another path for other values or sizes of its inputs",
        where=where,
        next_step="write the branch with torch.where, or the loop with a fixed number of steps",
    )


def _compare_constants(
    first: Recording, others: Sequence[Recording], node: fx.Node, same: Sequence[fx.Node]
) -> None:
    name = str(node.target)
    if name in first.fills:
        return
    mine = first.constants[name]
    for other, twin in zip(others, same, strict=True):
        theirs = other.constants[str(twin.target)]
        if mine.shape != theirs.shape or not torch.equal(
            torch.nan_to_num(mine) if mine.is_floating_point() else mine,
            torch.nan_to_num(theirs) if theirs.is_floating_point() else theirs,
        ):
            user = next(iter(node.users), node)
            raise ExportError(
                "a tensor that Python computed from the inputs' values or sizes would be baked in",
                where=place(user.meta),
                next_step=ADVICE,
            )


class _Merger:
    """Merge the arguments of one node over all recordings."""

    def __init__(
        self, twins: Mapping[fx.Node, tuple[fx.Node, ...]], sizes: Sequence[Sizes]
    ) -> None:
        self.twins, self.sizes = twins, sizes
        self.moved = False

    def merge(self, node: fx.Node, value: Any, others: Sequence[Any]) -> Any:
        """Return the common value, integers that moved as `Size`."""
        if isinstance(value, fx.Node):
            if any(
                twin is not other for twin, other in zip(self.twins[value], others, strict=True)
            ):
                raise _baked("data flow", node)
            return value
        if isinstance(value, list | tuple):
            if any(len(other) != len(value) for other in others):
                raise _baked("number of arguments", node)
            items = [
                self.merge(node, item, [other[i] for other in others])
                for i, item in enumerate(value)
            ]
            return items if isinstance(value, list) else tuple(items)
        if isinstance(value, Body):
            if any(
                (other.settles, other.until) != (value.settles, value.until) for other in others
            ):
                raise _baked("loop", node)
            value.seen = max(value.seen, *(other.seen for other in others))
            return value
        if isinstance(value, dict):
            return {
                key: self.merge(node, item, [other[key] for other in others])
                for key, item in value.items()
            }
        if type(value) is int and any(other != value for other in others):
            self.moved = True
            return self._expression(node, value, others)
        if any(other != value and not (other != other and value != value) for other in others):
            raise _baked(f"number {value!r}", node)
        return value

    def _expression(self, node: fx.Node, value: int, others: Sequence[int]) -> Size:
        """Return the expression that takes the seen values at the seen sizes."""
        base, *changed = self.sizes
        moving = {}
        for sizes, other in zip(changed, others, strict=True):
            if other != value:
                name = next(key for key in base if base[key] != sizes[key])
                slope, rest = divmod(other - value, sizes[name] - base[name])
                if rest:
                    raise _baked(f"number {value}", node)
                moving[name] = slope
        if len(moving) == 1:
            ((name, slope),) = moving.items()
            return Size((((name,), slope),), value - slope * base[name])
        product = math.prod(base[name] for name in moving)
        factor, rest = divmod(value, product)
        if rest == 0 and all(slope * base[name] == value for name, slope in moving.items()):
            return Size(((tuple(moving), factor),), 0)
        known = sum(slope * base[name] for name, slope in moving.items())
        return Size(tuple(((name,), slope) for name, slope in moving.items()), value - known)


def _baked(what: str, node: fx.Node) -> ExportError:
    return ExportError(
        f"a {what} that Python computed from the inputs' values or sizes would be baked in",
        where=f"{place(node.meta)} (operator {node.target})",
        next_step=ADVICE,
    )


def spell(graph: fx.Graph, axes: Mapping[str, tuple[fx.Node, int]]) -> None:
    """Write the integers that moved with the sizes of the inputs, or as −1 where that is enough.

    Arguments:
        graph: The first recording's graph.
        axes: Per dimension, an input of the graph and its axis.
    """
    writer = _Writer(graph, axes)
    for node in list(graph.nodes):
        if node.target in RESHAPES:
            node.target = aten.reshape.default
        if "sizes" in node.meta:
            _spell_node(node, writer)
        for inner in children(node):
            names = sorted(axes)
            lent = lend(node, [axes[name][0] for name in names])
            spell(inner, {n: (place, axes[n][1]) for n, place in zip(names, lent, strict=True)})


def _spell_node(node: fx.Node, writer: _Writer) -> None:
    args, kwargs = node.meta.pop("sizes")
    if node.target is aten.reshape.default:
        shape = list(args[1])
        unknown = sum(isinstance(size, Size) for size in shape)
        if unknown == 1 and 0 not in shape and -1 not in shape:
            node.args = (args[0], [-1 if isinstance(size, Size) else size for size in shape])
            return
    node.args, node.kwargs = writer.write(args), writer.write(kwargs)


class _Writer:
    """Write sizes into a graph, each expression once, right behind the inputs."""

    def __init__(self, graph: fx.Graph, axes: Mapping[str, tuple[fx.Node, int]]) -> None:
        self.graph, self.axes = graph, axes
        self.last = [node for node in graph.nodes if node.op == "placeholder"][-1]
        self.known: dict[Any, Any] = {}

    def write(self, value: Any) -> Any:
        """Return the value with graph nodes in the place of sizes."""
        if isinstance(value, Size):
            total: Any = value.constant
            for names, factor in value.terms:
                term = self._size(names[0])
                for name in names[1:]:
                    term = self._once(operator.mul, term, self._size(name))
                term = term if factor == 1 else self._once(operator.mul, term, factor)
                total = term if total == 0 else self._once(operator.add, term, total)
            return total
        if isinstance(value, list | tuple):
            return type(value)(self.write(item) for item in value)
        if isinstance(value, dict):
            return {key: self.write(item) for key, item in value.items()}
        return value

    def _size(self, name: str) -> fx.Node:
        return self._once(aten.sym_size.int, *self.axes[name])

    def _once(self, function: Callable[..., Any], *args: Any) -> fx.Node:
        if (function, args) not in self.known:
            with self.graph.inserting_after(self.last):
                self.last = self.graph.call_function(function, args)
            self.known[function, args] = self.last
        node: fx.Node = self.known[function, args]
        return node
