"""Drop additions of zeros, such as a log-determinant's first value and a permutation's part."""

from __future__ import annotations

import onnx_ir as ir

from toolkit.passes._graph import (
    LocalRewrite,
    constant,
    dims,
    drop,
    is_op,
    producer,
    repeated,
    replace,
    stands_for,
)


def drop_zeros(graph: ir.Graph, node: ir.Node) -> bool:
    """Replace one sum, or difference, by the operand that is not zero and has its shape."""
    del graph
    if not is_op(node, "Add", "Sub"):
        return False
    first, second = node.inputs
    pairs = [(first, second), (second, first)] if is_op(node, "Add") else [(first, second)]
    wanted, shape = node.outputs[0], dims(node.outputs[0])
    for kept, other in pairs:
        if kept is None or shape is None or dims(kept) != shape or not _is_zero(other):
            continue
        if not stands_for(kept, wanted, node):
            continue
        replace(wanted, kept)
        drop(node)
        return True
    return False


def _is_zero(value: ir.Value | None) -> bool:
    array = constant(value)
    if array is not None:
        return not array.any()
    spread = producer(value, "Expand", "ConstantOfShape")
    if spread is None:
        return False
    array = repeated(spread)
    return _is_zero(spread.inputs[0]) if array is None else not array.any()


rewrite = LocalRewrite(
    order=43,
    portable=True,
    rule=drop_zeros,
    absent="nothing adds zeros",
)
