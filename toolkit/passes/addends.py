"""Let a linear layer add what is added to its result.

A masked network adds a context's part in every pass of an inverse, and a residual network takes its
last layer off the same numbers in every iteration: with the layer's bias, once, they are the third
operand of its Gemm.
"""

from __future__ import annotations

import onnx_ir as ir

from toolkit.passes._graph import (
    LocalRewrite,
    constant,
    dims,
    drop,
    is_op,
    new_node,
    only_user,
    producer,
    replace,
)
from toolkit.passes._linear import is_plain


def take_in(graph: ir.Graph, node: ir.Node) -> bool:
    """Replace one sum, or difference, of a value and a Gemm by the Gemm."""
    del graph
    for value, layer in _sums(node):
        bias = layer.inputs[2] if len(layer.inputs) > 2 else None
        alike = [user for user, _ in value.uses() if _reads(user, node, value, bias)]
        if bias is not None and len(alike) < 2:
            continue
        third = value if bias is None else _joined(node, value, bias)
        attributes = {name: item.value for name, item in layer.attributes.items()}
        if is_op(node, "Sub"):
            attributes["alpha"] = -1.0
        inputs = [*layer.inputs[:2], third]
        made = new_node(layer, "Gemm", inputs, attributes, shape_of=node.outputs[0], before=node)
        replace(node.outputs[0], made.outputs[0])
        drop(node)
        return True
    return False


def _sums(node: ir.Node) -> list[tuple[ir.Value, ir.Node]]:
    """Return the value and the layer of a sum; both orders where both are layers."""
    if not is_op(node, "Add", "Sub"):
        return []
    first, second = node.inputs
    orders = [(first, second), (second, first)] if is_op(node, "Add") else [(first, second)]
    found = []
    for value, result in orders:
        layer = producer(result, "Gemm")
        if value is None or layer is None or value is result or constant(value) is not None:
            continue
        shape = dims(value)
        whole = shape is not None and shape == dims(result) == dims(node.outputs[0])
        if whole and only_user(layer.outputs[0]) is node and _adds_constant(layer):
            found.append((value, layer))
    return found


def _adds_constant(layer: ir.Node) -> bool:
    """Return whether a layer adds its product and a constant bias, neither of them scaled."""
    bias = layer.inputs[2] if len(layer.inputs) > 2 else None
    return is_plain(layer) and (bias is None or constant(bias) is not None)


def _reads(user: ir.Node, node: ir.Node, value: ir.Value, bias: ir.Value | None) -> bool:
    """Return whether a node is, or was, the same sum of a value and a layer with this bias."""
    layers = [layer for other, layer in _sums(user) if other is value]
    biases = [layer.inputs[2] for layer in layers if len(layer.inputs) > 2]
    return user.op_type == node.op_type and bias in (user.inputs[1], *biases)


def _joined(node: ir.Node, value: ir.Value, bias: ir.Value) -> ir.Value:
    """Return the value with the bias added, or taken off: one node for all layers."""
    for user, place in value.uses():
        same = place == 0 and user.op_type == node.op_type and user.inputs[1] is bias
        if same and _precedes(user, node):
            return user.outputs[0]
    made = new_node(node, node.op_type, [value, bias], shape_of=node.outputs[0])
    return made.outputs[0]


def _precedes(first: ir.Node, second: ir.Node) -> bool:
    graph = second.graph or ()
    return next((node for node in graph if node is first or node is second), second) is first


rewrite = LocalRewrite(
    order=48,
    portable=True,
    rule=take_in,
    absent="nothing is added to a linear layer more than once",
)
