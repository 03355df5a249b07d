"""Replace Elu, slow in ONNX Runtime, by Max(x, Exp(Min(x, 0)) - 1)."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from toolkit.passes._graph import LocalRewrite, drop, is_op, new_constant, new_node, replace


def expand_elu(graph: ir.Graph, node: ir.Node) -> bool:
    """Replace one Elu whose slope is one: a steeper one would lie below the identity."""
    del graph
    slope = node.attributes.get("alpha")
    if not is_op(node, "Elu") or (slope is not None and slope.as_float() != 1.0):
        return False
    value, wanted = node.inputs[0], node.outputs[0]
    if value is None:
        return False
    dtype = (wanted.dtype or ir.DataType.FLOAT).numpy()
    zero = new_constant(node, np.zeros((), dtype), "zero")
    one = new_constant(node, np.ones((), dtype), "one")

    def then(operator: str, *inputs: ir.Value) -> ir.Value:
        return new_node(node, operator, inputs, shape_of=wanted).outputs[0]

    below = then("Sub", then("Exp", then("Min", value, zero)), one)
    replace(wanted, then("Max", value, below))
    drop(node)
    return True


rewrite = LocalRewrite(
    order=91,
    portable=False,
    rule=expand_elu,
    absent="no Elu with slope one",
)
