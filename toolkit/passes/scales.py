"""Join scalar factors that follow one another, signs included."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from toolkit.passes._graph import (
    LocalRewrite,
    drop,
    is_op,
    new_constant,
    new_node,
    only_user,
    replace,
    scalar,
)


def join(graph: ir.Graph, node: ir.Node) -> bool:
    """Replace two factors, the second of which alone reads what the first gives, by one."""
    del graph
    last = _factor(node)
    if last is None:
        return False
    inner = last[0].producer()
    first = _factor(inner) if inner is not None and inner.graph is node.graph else None
    if inner is None or first is None or only_user(inner.outputs[0]) is not node:
        return False
    value, factor = first[0], first[1] * last[1]
    wanted = node.outputs[0]
    dtype = (wanted.dtype or ir.DataType.FLOAT).numpy()
    if not np.issubdtype(dtype, np.floating):
        return False
    if not np.finfo(dtype).tiny <= abs(factor) <= np.finfo(dtype).max:
        return False
    stored = new_constant(node, np.array(factor, dtype), "factor")
    made = new_node(node, "Mul", [value, stored], shape_of=wanted)
    replace(wanted, made.outputs[0])
    drop(node)
    return True


def _factor(node: ir.Node) -> tuple[ir.Value, float] | None:
    """Return what a node multiplies by one number, and that number."""
    value = node.inputs[0] if node.inputs else None
    if is_op(node, "Neg") and value is not None:
        return value, -1.0
    if not is_op(node, "Mul", "Div"):
        return None
    first, second = node.inputs
    turned = is_op(node, "Mul") and scalar(second) is None
    value, number = (second, first) if turned else (first, second)
    factor = scalar(number)
    if value is None or number is None or not factor or value.shape is None:
        return None
    # A number with more axes would widen the value.
    if len(number.shape or ()) > len(value.shape):
        return None
    return value, 1 / factor if is_op(node, "Div") else factor


rewrite = LocalRewrite(
    order=41,
    portable=True,
    rule=join,
    absent="no two scalar factors follow one another",
)
