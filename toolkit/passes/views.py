"""Drop views that change no shape, and join those that follow one another."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from toolkit.passes._graph import (
    LocalRewrite,
    dims,
    drop,
    is_op,
    new_constant,
    new_node,
    only_user,
    producer,
    replace,
    scalar,
    stands_for,
)
from toolkit.passes.sink_transposes import UNARY, VIEWS

ARITHMETIC = ("Add", "Div", "Mul", "Pow", "Sub")


def join(graph: ir.Graph, node: ir.Node) -> bool:
    """Drop one view, or make one of two."""
    del graph
    if is_op(node, "Expand"):
        return _unchanged(node, node.inputs[0])
    if not is_op(node, *VIEWS):
        return False
    return _unchanged(node, node.inputs[0]) or _of_a_view(node) or _around(node)


def _unchanged(node: ir.Node, source: ir.Value | None) -> bool:
    """Drop a view whose result has the shape of `source` and holds the same numbers."""
    wanted = node.outputs[0]
    if source is None or dims(source) is None or dims(source) != dims(wanted):
        return False
    if not stands_for(source, wanted, node):
        return False
    replace(wanted, source)
    drop(node)
    return True


def _of_a_view(node: ir.Node) -> bool:
    """Replace a view of a view by one Reshape."""
    inner = producer(node.inputs[0], *VIEWS)
    if inner is None or inner.inputs[0] is None:
        return False
    if _unchanged(node, inner.inputs[0]):
        return True
    wanted, shape = node.outputs[0], dims(node.outputs[0])
    if shape is None or only_user(inner.outputs[0]) is None or 0 in shape:
        return False
    target = [size if isinstance(size, int) else -1 for size in shape]
    if target.count(-1) > 1:
        return False
    sizes = new_constant(node, np.array(target, np.int64), "shape")
    made = new_node(node, "Reshape", [inner.inputs[0], sizes], shape_of=wanted)
    replace(wanted, made.outputs[0])
    drop(node)
    return True


def _around(node: ir.Node) -> bool:
    """Drop a view that undoes another, with nothing but elementwise operators between them."""
    chain, value = [], node.inputs[0]
    while (inner := _elementwise(value)) is not None:
        chain.append(inner)
        value = inner.inputs[_place(inner)]
    view = producer(value, *VIEWS) if chain else None
    if view is None or view.inputs[0] is None or view.graph is not node.graph:
        return False
    shape, source = dims(node.outputs[0]), view.inputs[0]
    if shape is None or dims(source) != shape:
        return False
    numbers = [item for inner in chain for item in inner.inputs if scalar(item) is not None]
    if any(len(item.shape or ()) > len(shape) for item in numbers if item is not None):
        return False
    chain[-1].replace_input_with(_place(chain[-1]), source)
    for inner in chain:
        inner.outputs[0].shape = ir.Shape(shape)
    replace(node.outputs[0], chain[0].outputs[0])
    drop(node)
    drop(view)
    return True


def _elementwise(value: ir.Value | None) -> ir.Node | None:
    """Return an operator on one value alone, whose result has one reader."""
    node = producer(value, *UNARY, *ARITHMETIC)
    if node is None or value is None or only_user(value) is None:
        return None
    if is_op(node, *ARITHMETIC) and sum(scalar(item) is None for item in node.inputs) != 1:
        return None
    own = dims(node.inputs[_place(node)])
    return node if own is not None and own == dims(value) else None


def _place(node: ir.Node) -> int:
    """Return which input is not a constant."""
    return next(place for place, item in enumerate(node.inputs) if scalar(item) is None)


rewrite = LocalRewrite(
    order=45,
    portable=True,
    rule=join,
    absent="every view is needed",
)
