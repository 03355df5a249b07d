"""Replace powers of one number with many small constant exponents by products."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from toolkit.passes._graph import (
    LocalRewrite,
    constant,
    drop,
    is_op,
    new_constant,
    new_node,
    replace,
)

# Products of so many factors are within a few roundings of the power.
LARGEST = 8


def spell_out(graph: ir.Graph, node: ir.Node) -> bool:
    """Replace one Pow of a last axis of size one by a row of exponents 0, 1, …."""
    del graph
    if not is_op(node, "Pow"):
        return False
    base, row, wanted = node.inputs[0], constant(node.inputs[1]), node.outputs[0]
    if base is None or base.shape is None or row is None or row.ndim != 1 or row.size < 2:
        return False
    exponents = [int(number) for number in row if number in range(LARGEST + 1)]
    column = len(base.shape) > 0 and base.shape[-1] == 1
    if len(exponents) != row.size or not column or base.dtype != wanted.dtype:
        return False
    known = {1: base}
    for exponent in range(2, max(exponents) + 1):
        half = exponent // 2
        factors = [known[half], known[exponent - half]]
        known[exponent] = new_node(node, "Mul", factors, shape_of=base).outputs[0]
    if 0 in exponents:
        dtype = (wanted.dtype or ir.DataType.FLOAT).numpy()
        one = new_constant(node, np.ones((), dtype), "one")
        size = new_node(node, "Shape", [base]).outputs[0]
        known[0] = new_node(node, "Expand", [one, size], shape_of=base).outputs[0]
    terms = [known[exponent] for exponent in exponents]
    result = new_node(node, "Concat", terms, {"axis": -1}, shape_of=wanted).outputs[0]
    replace(wanted, result)
    drop(node)
    return True


rewrite = LocalRewrite(
    order=56,
    portable=True,
    rule=spell_out,
    absent="no power of one number with a row of small exponents",
)
