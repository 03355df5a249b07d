"""Trees of Add, Sub and Neg, flattened to signed terms."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from toolkit.passes._graph import (
    Array,
    constant,
    dims,
    is_op,
    new_constant,
    new_node,
    only_user,
    producer,
    repeated,
)

Shape = tuple[int | str, ...]


@dataclass(slots=True)
class Terms:
    """What a tree of additions adds up.

    Arguments:
        nodes: Every node of the tree, its root last.
        values: Computed terms with their signs, in the order of evaluation.
        constants: Constant terms, signs applied, in float64.
        broadcast: Nodes that only spread a constant or term over the result's shape.
    """

    nodes: list[ir.Node] = field(default_factory=list)
    values: list[tuple[int, ir.Value]] = field(default_factory=list)
    constants: list[Array] = field(default_factory=list)
    broadcast: list[ir.Node] = field(default_factory=list)

    def ordered(self, shape: Shape | None) -> list[tuple[int, ir.Value]]:
        """Return the computed terms: whole ones before those that are spread, then by sign.

        So every partial sum has the result's shape.
        """
        return sorted(self.values, key=lambda term: (dims(term[1]) != shape, -term[0]))

    def cost(self, shape: Shape | None) -> int:
        """Return how many nodes the sum takes once it is rebuilt."""
        constants = bool(self.constants) and bool(np.any(self.total()))
        negated = self.ordered(shape)[0][0] < 0 and not constants
        return len(self.values) - 1 + constants + negated

    def total(self) -> Array | None:
        """Return the constants' sum; `None` where it would be larger than each of them."""
        total = functools.reduce(np.add, self.constants, np.zeros(()))
        largest = max((array.size for array in self.constants), default=1)
        return total if total.size == largest else None


def is_root(node: ir.Node) -> bool:
    """Return whether a node is the last addition of its tree, over floating-point numbers."""
    value = node.outputs[0]
    if not is_op(node, "Add", "Sub") or value.dtype is None or not value.dtype.is_floating_point():
        return False
    user = only_user(value)
    return user is None or not is_op(user, "Add", "Sub") or dims(user.outputs[0]) != dims(value)


def flatten(root: ir.Node) -> Terms | None:
    """Return the terms of a tree; `None` where a shape is unknown."""
    shape = dims(root.outputs[0])
    if shape is None:
        return None
    terms = Terms()
    _add_node(root, 1, shape, terms)
    return terms


def _add_node(node: ir.Node, sign: int, shape: Shape, terms: Terms) -> None:
    signs = {"Add": (sign, sign), "Sub": (sign, -sign), "Neg": (-sign,)}[node.op_type]
    for value, own in zip(node.inputs, signs, strict=False):
        if value is not None:
            _add_value(value, own, shape, terms)
    terms.nodes.append(node)


def _add_value(value: ir.Value, sign: int, shape: Shape, terms: Terms) -> None:
    inner = producer(value, "Add", "Sub", "Neg")
    if inner is not None and only_user(value) is not None and dims(value) == shape:
        _add_node(inner, sign, shape, terms)
        return
    array, spread = constant(value), None
    if array is None and (spread := producer(value, "Expand", "ConstantOfShape")) is not None:
        array = repeated(spread)
    if array is None:
        terms.values.append((sign, value))
        return
    terms.constants.append(sign * array.astype(np.float64))
    if spread is not None:
        terms.broadcast.append(spread)


def rebuild(root: ir.Node, terms: Terms) -> ir.Value:
    """Add the terms before `root`, the constants' sum last.

    The constants must have a `total`.
    """
    wanted, total = root.outputs[0], terms.total()
    (first, result), *rest = terms.ordered(dims(wanted))
    for sign, value in rest:
        operator = "Add" if sign == first else "Sub"
        result = new_node(root, operator, [result, value], shape_of=wanted).outputs[0]
    if total is None or not np.any(total):
        return result if first > 0 else _negated(root, result)
    dtype = (wanted.dtype or ir.DataType.FLOAT).numpy()
    stored = new_constant(root, total.astype(dtype), "summed")
    operator, inputs = ("Add", [result, stored]) if first > 0 else ("Sub", [stored, result])
    return new_node(root, operator, inputs, shape_of=wanted).outputs[0]


def _negated(root: ir.Node, value: ir.Value) -> ir.Value:
    return new_node(root, "Neg", [value], shape_of=root.outputs[0]).outputs[0]
