"""A loop in a recorded graph: one node, whose body is a graph of its own."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from toolkit.capture.record import guard
from toolkit.nn.operators import DOMAIN

aten = torch.ops.aten
CAP = 1000
FUNCTION = 60
"""Operators in the body of one of the toolkit's own, about."""
PRODUCTS = {aten.addmm.default: 2, aten.linear.default: 1, aten.mm.default: 1}
READ = 8_192
"""Weights that a product reads in the time of one more operator, about."""


@dataclass(slots=True, eq=False)
class Body:
    """One iteration of a loop.

    Its graph takes the carried values, then the outer ones, then this iteration's slices of the
    stacked ones; it gives three tuples: the next carried values, the values that are used after
    the loop only, and the condition (empty, or one boolean tensor without dimensions).

    Arguments:
        graph: Functional operators, `guard` calls and further `repeat` calls; no `get_attr`.
        carried: How many values are carried.
        settles: An iteration that leaves the carried values as they are may be the last one.
        until: The condition's value that ends the loop.
        seen: How many iterations were recorded.
        taken: The most that a run has needed so far.
    """

    graph: fx.Graph
    carried: int
    settles: bool
    until: bool
    seen: int
    taken: int = 0

    def __repr__(self) -> str:
        """Return a Python literal: a graph's code is compiled, though only interpreters run it."""
        return repr(f"{self.seen} iterations")


def repeat(
    body: Body,
    count: int | None,
    carried: Sequence[Tensor],
    outer: Sequence[Tensor],
    stacked: Sequence[Tensor],
    extras: Sequence[tuple[Sequence[int], torch.dtype]],
    before: Tensor | None,
) -> tuple[Tensor, ...]:
    """Stand in a graph for a loop, and run it.

    Arguments:
        body: One iteration.
        count: Number of iterations; `None` where the body's condition decides.
        carried: Initial values.
        outer: Values that every iteration reads.
        stacked: Tensors whose i-th slice is iteration i's own.
        extras: Shape and type of every value that only the last iteration gives.
        before: The condition in front of the first iteration; `None` runs at least one.

    Returns:
        The carried values after the last iteration, then the extras.
    """
    last = tuple(torch.zeros(tuple(shape), dtype=dtype) for shape, dtype in extras)
    state = tuple(carried)
    if before is not None and bool(before) == body.until:
        return (*state, *last)
    runner = fx.Interpreter(nn.Module(), graph=body.graph)
    for index in range(limit(body) if count is None else count):
        slices = [tensor[index] for tensor in stacked]
        after, last, stop = runner.run(*state, *outer, *slices)
        body.taken = max(body.taken, index + 1)
        settled = body.settles and all(map(torch.equal, state, after))
        state = tuple(after)
        if settled or (stop and bool(stop[0]) == body.until):
            break
    return (*state, *last)


def limit(body: Body) -> int:
    """Return after how many iterations a loop whose condition decides is left anyway."""
    return max(CAP, 10 * body.seen)


def children(node: fx.Node) -> list[fx.Graph]:
    """Return the graphs inside a node."""
    return [node.args[0].graph] if node.target is repeat else []  # type: ignore[union-attr]


def lend(node: fx.Node, values: Sequence[fx.Node]) -> list[fx.Node]:
    """Let a `repeat` node's body read further values; return its placeholders for them."""
    arguments: Any = node.args
    body, count, carried, outer, *rest = arguments
    graph = body.graph
    places = [item for item in graph.nodes if item.op == "placeholder"]
    last = places[body.carried + len(outer) - 1]
    lent: list[fx.Node] = []
    for value in values:
        with graph.inserting_after(last):
            last = graph.placeholder(f"lent_{len(places) + len(lent)}")
        lent.append(like(last, value))
    node.args = (body, count, carried, (*outer, *values), *rest)
    return lent


def weight(node: fx.Node) -> int:
    """Return how many operators a node executes, or that take as long."""
    if node.target in PRODUCTS:
        matrix: Any = node.args[PRODUCTS[node.target]]
        return 1 + int(math.prod(matrix.meta.get("shape", ()))) // READ
    if node.target is not repeat:
        own = isinstance(node.target, torch._ops.OpOverload) and node.target.namespace == DOMAIN  # noqa: SLF001
        return FUNCTION if own else int(node.target not in (guard, operator.getitem))
    body: Body = node.args[0]  # type: ignore[assignment]
    return body.seen * sum(map(weight, body.graph.nodes))


def structure(body: Body) -> tuple[Any, ...]:
    """Return what two bodies share when they do the same."""
    names = {node: place for place, node in enumerate(body.graph.nodes)}

    def leaf(value: Any) -> Any:
        if isinstance(value, Body):
            return structure(value)
        return ("node", names[value]) if isinstance(value, fx.Node) else repr(value)

    lines = []
    for node in body.graph.nodes:
        leaves, spec = pytree.tree_flatten((node.args, node.kwargs))
        if node.target is guard:
            leaves = leaves[:1]
        target = "" if node.op == "placeholder" else node.target
        lines.append((node.op, target, tuple(map(leaf, leaves)), str(spec)))
    return (*lines, body.settles, body.until)


def like(node: fx.Node, other: fx.Node) -> fx.Node:
    """Return the node, told the other's shape and element type."""
    node.meta.update({key: other.meta[key] for key in ("shape", "dtype") if key in other.meta})
    return node
