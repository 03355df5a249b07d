"""Replace Pow with a constant exponent by Mul, Sqrt or Reciprocal."""

from __future__ import annotations

import onnx_ir as ir

from toolkit.passes._graph import LocalRewrite, drop, is_op, new_node, replace, scalar

UNARY = {0.5: "Sqrt", -1.0: "Reciprocal"}


def reduce_power(graph: ir.Graph, node: ir.Node) -> bool:
    """Replace one Pow whose exponent is 2, 3, 1/2 or -1."""
    del graph
    if not is_op(node, "Pow") or node.inputs[0] is None:
        return False
    base, exponent, wanted = node.inputs[0], scalar(node.inputs[1]), node.outputs[0]
    if base.dtype != wanted.dtype:
        return False
    if exponent in UNARY:
        result = new_node(node, UNARY[exponent], [base], shape_of=wanted).outputs[0]
    elif exponent in (2.0, 3.0):
        result = new_node(node, "Mul", [base, base], shape_of=wanted).outputs[0]
        if exponent == 3.0:
            result = new_node(node, "Mul", [result, base], shape_of=wanted).outputs[0]
    else:
        return False
    replace(wanted, result)
    drop(node)
    return True


rewrite = LocalRewrite(
    order=55,
    portable=True,
    rule=reduce_power,
    absent="no power with a small constant exponent",
)
