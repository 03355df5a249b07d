"""Put a matrix product in the place of a sum of products with one row of weights.

A planar flow multiplies its samples by a row and sums the features up: ONNX Runtime does both at
once, and takes a bias that follows along.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from toolkit.passes._graph import (
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
)
from toolkit.passes.hoist_from_sums import reduced_axes


def multiply(graph: ir.Graph, node: ir.Node) -> bool:
    """Replace one ReduceSum over the last axis of a product with a constant row."""
    del graph
    product = producer(node.inputs[0], "Mul") if is_op(node, "ReduceSum") else None
    if product is None or only_user(product.outputs[0]) is not node:
        return False
    shape, axes = dims(product.outputs[0]), reduced_axes(node)
    if shape is None or len(shape) < 2 or axes != [len(shape) - 1]:
        return False
    for value, other in (product.inputs, reversed(product.inputs)):
        row = constant(other)
        if row is None or dims(value) != shape or not np.issubdtype(row.dtype, np.floating):
            continue
        if row.shape[-1:] != shape[-1:] or row.size != shape[-1]:
            continue
        kept = integer(node, "keepdims", 1)
        weights = new_constant(node, row.reshape(-1, *(1,) * kept), "row")
        made = new_node(node, "MatMul", [value, weights], shape_of=node.outputs[0])
        replace(node.outputs[0], made.outputs[0])
        drop(node)
        return True
    return False


rewrite = LocalRewrite(
    order=47,
    portable=True,
    rule=multiply,
    absent="no sum of products with one row of weights",
)
