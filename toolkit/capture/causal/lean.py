"""Fewer operators for the same step: views of views, splits behind them, factors in weights.

A column has lost its axis of time, so much of what a network does to lay out its axes leaves the
numbers where they are. A step costs by its number of operators.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import fx

from toolkit.capture.causal.program import Program, dtype_of, shape_of

aten = torch.ops.aten

VIEWS = frozenset(
    {
        aten.view.default,
        aten.reshape.default,
        aten._unsafe_view.default,  # noqa: SLF001  (an operator's name)
        aten.unsqueeze.default,
        aten.squeeze.default,
        aten.squeeze.dim,
        aten.squeeze.dims,
        aten.flatten.using_ints,
        aten.unflatten.int,
    }
)
SAME = frozenset({aten.clone.default, aten.contiguous.default, aten.alias.default})


def lean(program: Program) -> Program:
    """Return the program with fewer operators; it is changed in place.

    Arguments:
        program: Traced at fixed sizes.
    """
    const = dict(program.const)
    instead = _without_factors(program, const)
    for node in program.nodes:
        for old, new in _instead(node).items():
            old.replace_all_uses_with(new)
            instead[old] = new
    outputs = [_last(instead, node) for node in program.outputs]
    needed, pending = set(), list(outputs)
    while pending:
        node = pending.pop()
        if node not in needed:
            needed.add(node)
            pending += node.all_input_nodes
    apart = {*const, *program.inputs}
    graph = program.nodes[0].graph if program.nodes else None
    kept = [node for node in graph.nodes if node in needed - apart] if graph is not None else []
    return Program(tuple(kept), const, program.inputs, tuple(outputs))


def _without_factors(program: Program, const: dict[fx.Node, Any]) -> dict[fx.Node, fx.Node]:
    """Move factors into the weights of the linear layers that they scale, all of it or a piece.

    Returns what stands for each product that is gone; new weights are put among the constants.
    """
    instead: dict[fx.Node, fx.Node] = {}
    live = {*program.nodes, *program.outputs}
    for node in program.nodes:
        factor = node.args[1] if node.target is aten.mul.Tensor else None
        found = _scaled_layer(_first(node), live) if isinstance(factor, float) else None
        if found is None:
            continue
        layer, start, size = found
        weights = [item for item in layer.args[1:] if isinstance(item, fx.Node)]
        if not all(item in const for item in weights):
            continue
        for item in weights:
            value = const[item].clone()
            value.narrow(0, start, size).mul_(factor)
            with layer.graph.inserting_before(layer):
                made = layer.graph.create_node("get_attr", f"{item.name}_of_{node.name}")
            const[made] = value
            layer.replace_input_with(item, made)
        instead[node] = _first(node)
        node.replace_all_uses_with(_first(node))
    return instead


def _scaled_layer(node: fx.Node, live: set[fx.Node]) -> tuple[fx.Node, int, int] | None:
    """Return the linear layer whose results alone are seen here, and which of them."""
    seen = [node]
    while node.target in VIEWS | SAME or _only_views(node):
        node = _first(node)
        seen.append(node)
    start, size = 0, shape_of(node)[-1]
    if node.target is operator.getitem and _first(node).target is aten.split.Tensor:
        split, index = _first(node), int(node.args[1])  # type: ignore[arg-type]
        given: Any = split.args
        if given[2:] not in {(-1,), (len(shape_of(node)) - 1,)}:
            return None
        start, node = given[1] * index, _first(split)
        seen.append(node)
    alone = all(len(live & set(item.users)) == 1 for item in seen)
    return (node, start, size) if alone and node.target is aten.linear.default else None


def _last(instead: Mapping[fx.Node, fx.Node], node: fx.Node) -> fx.Node:
    while node in instead:
        node = instead[node]
    return node


def _instead(node: fx.Node) -> dict[fx.Node, fx.Node]:
    """Return what stands for a node, or for its results, if something simpler does."""
    target: Any = node.target
    if target in SAME:
        return {node: _first(node)}
    if target in VIEWS or _only_views(node):
        root = _root(_first(node))
        if shape_of(root) == shape_of(node):
            return {node: root}
        if root is _first(node) and target in VIEWS:
            return {}
        return {node: _reshaped(root, shape_of(node), before=node)}
    return _unbind(node) if target is aten.unbind.int else {}


def _first(node: fx.Node) -> fx.Node:
    """Return a node's first argument, which is a node."""
    return node.all_input_nodes[0]


def _root(node: fx.Node) -> fx.Node:
    """Return what a chain of views starts from."""
    while node.target in VIEWS:
        node = _first(node)
    return node


def _only_views(node: fx.Node) -> bool:
    """Return whether a permutation moves axes of size 1 alone."""
    order = _order(node)
    if order is None:
        return False
    long = [axis for axis in order if shape_of(_first(node))[axis] > 1]
    return long == sorted(long)


def _order(node: fx.Node) -> list[int] | None:
    """Return the axes of a permutation."""
    target: Any = node.target
    args: Any = node.args
    if target is aten.permute.default:
        return [dim % len(args[1]) for dim in args[1]]
    if target is aten.transpose.int:
        order = list(range(len(shape_of(node))))
        first, second = args[1:]
        order[first], order[second] = order[second], order[first]
        return order
    return None


def _unbind(node: fx.Node) -> dict[fx.Node, fx.Node]:
    """Return what stands for the results of an unbind: pieces of one split.

    It splits what the views and permutations before it start from, where they allow.
    """
    source = _first(node)
    rank = len(shape_of(source))
    dim = int(node.args[1]) % rank if len(node.args) > 1 else 0  # type: ignore[arg-type]
    order = _order(source)
    if order is not None:
        rest = [axis for axis in order if axis != order[dim]]
        if rest == sorted(rest):
            source, dim = _first(source), order[dim]
    shape = shape_of(source)
    count, left = shape[dim], [*shape[:dim], *shape[dim + 1 :]]
    root, size, axis = source, 1, dim
    if source.target in VIEWS:
        inner, above = math.prod(shape[dim + 1 :]), _root(source)
        if shape_of(above)[-1] == count * inner:
            root, size, axis = above, inner, len(shape_of(above)) - 1
    pieces = _made(node, aten.split.Tensor, (root, size, axis), ())
    part = [*shape_of(root)[:axis], size, *shape_of(root)[axis + 1 :]]
    found = {}
    for item in list(node.users):
        piece = _made(item, item.target, (pieces, item.args[1]), part)
        found[item] = _reshaped(piece, left, before=item)
    return found


def _reshaped(root: fx.Node, shape: Sequence[int], *, before: fx.Node) -> fx.Node:
    if tuple(shape_of(root)) == tuple(shape):
        return root
    return _made(before, aten.reshape.default, (root, list(shape)), shape, like=root)


def _made(
    before: fx.Node,
    target: Any,
    args: tuple[Any, ...],
    shape: Sequence[int],
    like: fx.Node | None = None,
) -> fx.Node:
    """Return a new node that stands before another one."""
    with before.graph.inserting_before(before):
        made = before.graph.call_function(target, args)
    dtype = dtype_of(before if like is None else like)
    made.meta["val"] = torch.empty(tuple(shape), dtype=dtype, device="meta")
    return made
