"""Replace Softplus, a slow scalar loop in ONNX Runtime, by Relu(x) + Log(1 + Exp(-|x|))."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from toolkit.passes._graph import LocalRewrite, drop, is_op, new_constant, new_node, replace


def expand_softplus(graph: ir.Graph, node: ir.Node) -> bool:
    """Replace one Softplus; the form neither overflows nor loses its tail to rounding."""
    del graph
    if not is_op(node, "Softplus") or node.inputs[0] is None:
        return False
    value, wanted = node.inputs[0], node.outputs[0]
    dtype = (wanted.dtype or ir.DataType.FLOAT).numpy()
    one = new_constant(node, np.ones((), dtype), "one")

    def then(operator: str, *inputs: ir.Value) -> ir.Value:
        return new_node(node, operator, inputs, shape_of=wanted).outputs[0]

    tail = then("Log", then("Add", then("Exp", then("Neg", then("Abs", value))), one))
    replace(wanted, then("Add", then("Relu", value), tail))
    drop(node)
    return True


rewrite = LocalRewrite(
    order=90,
    portable=False,
    rule=expand_softplus,
    absent="no Softplus",
)
