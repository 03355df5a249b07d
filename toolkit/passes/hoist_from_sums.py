"""Take constants, factors and squares out of ReduceSum: fewer elements are touched."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from toolkit.passes._graph import (
    Array,
    LocalRewrite,
    constant,
    dims,
    drop,
    integer,
    is_op,
    new_constant,
    new_node,
    only_user,
    producer,
    replace,
    scalar,
)

STEPS = ("Add", "Sub", "Mul", "Neg", "Pow", "Reshape")


def hoist(graph: ir.Graph, node: ir.Node) -> bool:
    """Move one operation from before a ReduceSum to after it."""
    del graph
    if not is_op(node, "ReduceSum") or node.inputs[0] is None:
        return False
    data = node.inputs[0]
    inner = producer(data, *STEPS)
    if inner is None or only_user(data) is not node:
        return False
    if is_op(inner, "Reshape"):
        return _unflatten(node, inner)
    if is_op(inner, "Pow", "Mul") and (squared := _squared(inner)) is not None:
        return _finish(node, _reduce(node, squared, "ReduceSumSquare"))
    if is_op(inner, "Neg") and inner.inputs[0] is not None:
        summed = _reduce(node, inner.inputs[0], "ReduceSum")
        return _finish(node, new_node(inner, "Neg", [summed], before=node).outputs[0])
    return _hoist_binary(node, inner)


def _unflatten(node: ir.Node, inner: ir.Node) -> bool:
    """Sum over the axes themselves where a Reshape flattened all but the first."""
    value, flat = inner.inputs[0], inner.outputs[0]
    before, after = dims(value), dims(flat)
    if value is None or before is None or after is None or len(after) != 2 or len(before) < 2:
        return False
    if before[0] != after[0] or reduced_axes(node) != [1] or integer(node, "keepdims", 1):
        return False
    axes = new_constant(node, np.arange(1, len(before), dtype=np.int64), "axes")
    attributes = {"keepdims": 0}
    summed = new_node(node, "ReduceSum", [value, axes], attributes, shape_of=node.outputs[0])
    return _finish(node, summed.outputs[0])


def _hoist_binary(node: ir.Node, inner: ir.Node) -> bool:
    left, right = inner.inputs if len(inner.inputs) == 2 else (None, None)
    if left is None or right is None:
        return False
    flipped = constant(right) is None
    value, other = (right, left) if flipped else (left, right)
    array = constant(other)
    if array is None or dims(value) is None or dims(value) != dims(inner.outputs[0]):
        return False
    if is_op(inner, "Mul"):
        outer = scalar(other)
    else:
        outer = None if flipped and is_op(inner, "Sub") else _summed(node, value, array)
    if outer is None:
        return False
    summed = _reduce(node, value, "ReduceSum")
    dtype = (summed.dtype or ir.DataType.FLOAT).numpy()
    stored = new_constant(node, np.asarray(outer, dtype), "hoisted")
    return _finish(node, new_node(inner, inner.op_type, [summed, stored], before=node).outputs[0])


def _squared(node: ir.Node) -> ir.Value | None:
    """Return what a node squares."""
    left, right = node.inputs
    if is_op(node, "Mul"):
        return left if left is right else None
    return left if scalar(right) == 2.0 else None


def _reduce(node: ir.Node, value: ir.Value, operator: str) -> ir.Value:
    attributes = {name: attribute.value for name, attribute in node.attributes.items()}
    inputs = [value, *node.inputs[1:]]
    return new_node(node, operator, inputs, attributes, shape_of=node.outputs[0]).outputs[0]


def _finish(node: ir.Node, result: ir.Value) -> bool:
    replace(node.outputs[0], result)
    drop(node)
    return True


def _summed(node: ir.Node, value: ir.Value, array: Array) -> float | None:
    """Return the sum that a constant adds: it must not vary along the axes that are kept."""
    shape, axes = dims(value), reduced_axes(node)
    if shape is None or axes is None or not np.issubdtype(array.dtype, np.floating):
        return None
    sizes = [shape[axis] for axis in axes]
    local = (1,) * (len(shape) - array.ndim) + array.shape
    kept = [size for axis, size in enumerate(local) if axis not in axes]
    if any(size != 1 for size in kept):
        return None
    count = _product(sizes)
    return None if count is None else float(array.astype(np.float64).mean() * count)


def _product(sizes: Sequence[int | str]) -> int | None:
    known = [size for size in sizes if isinstance(size, int)]
    return math.prod(known) if len(known) == len(sizes) else None


def reduced_axes(node: ir.Node) -> list[int] | None:
    """Return the axes that a ReduceSum sums over, counted from the front; `None` if unknown."""
    data = node.inputs[0]
    axes = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    if (
        data is None
        or data.shape is None
        or axes is None
        or integer(node, "keepdims", 1) not in (0, 1)
    ):
        return None
    rank = len(data.shape)
    return sorted(int(axis) % rank for axis in axes.reshape(-1)) or None


rewrite = LocalRewrite(
    order=40,
    portable=True,
    rule=hoist,
    absent="no ReduceSum sums a constant, a scaled value or a square",
)
