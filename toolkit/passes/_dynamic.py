"""Int8 weights whose products quantise their data as they run, inside loops too."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from toolkit.core.errors import ExportError
from toolkit.passes._graph import (
    Array,
    constant,
    integer,
    is_op,
    new_node,
    registered,
    remove_unused,
    replace,
)
from toolkit.passes._products import SMALLEST_PRODUCT, product_size

LARGEST = 127
FLOAT = int(ir.DataType.FLOAT)


def to_dynamic_int8(model: ir.Model, *, everywhere: bool) -> ir.Model:
    """Return a copy whose large products in loops multiply uint8 data by int8 weights.

    Weights have one scale per output. A step of a sampler reads every weight once for a few rows
    of data: it is as slow as its weights are large. ONNX Runtime makes one kernel of the operators
    that stand for a product.

    Arguments:
        model: A float32 model; it is left as it was.
        everywhere: Whether products outside loops are meant too: those of a single step. Elsewhere
            ranges that were calibrated cost less.

    Raises:
        ExportError: No such product has a constant weight of that size.
    """
    made = model.clone()
    weights: dict[ir.Value, tuple[ir.Value, ir.Value]] = {}
    nodes = [node for node in made.graph.all_nodes() if everywhere or node.graph is not made.graph]
    count = sum(_quantised(node, weights) for node in nodes)
    if not count:
        raise ExportError(
            f"nothing to quantise: no constant weight {'' if everywhere else 'in a loop '}sums up "
            f"{SMALLEST_PRODUCT} numbers or more",
            next_step="leave int8 out of optimize.variants",
        )
    remove_unused(made)
    return made


def _weight(node: ir.Node) -> Array | None:
    """Return a large product's constant weight `(summed, outputs)`."""
    if not is_op(node, "Gemm", "MatMul") or product_size(node) < SMALLEST_PRODUCT:
        return None
    weight = constant(node.inputs[1])
    if weight is None or weight.ndim != 2 or weight.dtype != np.float32:
        return None
    factors = [
        node.attributes[name].as_float() for name in ("alpha", "beta") if name in node.attributes
    ]
    if integer(node, "transA", 0) or any(factor != 1 for factor in factors):
        return None
    return weight.T if integer(node, "transB", 0) else weight


def _quantised(node: ir.Node, weights: dict[ir.Value, tuple[ir.Value, ir.Value]]) -> bool:
    """Put an integer product in the place of a node; return whether it is one that can be."""
    weight = _weight(node)
    if weight is None:
        return False
    data, stored, *bias = node.inputs
    if data is None or stored is None:
        return False
    if stored not in weights:
        scale = np.maximum(np.abs(weight).max(0) / LARGEST, np.finfo(np.float32).tiny)
        whole = np.rint(weight / scale).astype(np.int8)
        hint = stored.name or "weight"
        weights[stored] = (
            _beside(stored, whole, f"{hint}_int8"),
            _beside(stored, scale.astype(np.float32), f"{hint}_scale"),
        )
    whole, scale = weights[stored]
    values, factor, zero = _made(node, "DynamicQuantizeLinear", [data], "values factor zero")
    (product,) = _made(node, "MatMulInteger", [values, whole, zero], "product")
    (real,) = _made(node, "Cast", [product], "real", to=FLOAT)
    (both,) = _made(node, "Mul", [factor, scale], "scales")
    (result,) = _made(node, "Mul", [real, both], "scaled")
    if bias and bias[0] is not None:
        (result,) = _made(node, "Add", [result, bias[0]], "shifted")
    replace(node.outputs[0], result)
    return True


def _made(
    node: ir.Node, operator: str, inputs: list[ir.Value | None], names: str, **attributes: int
) -> Sequence[ir.Value]:
    """Insert a node before another; its outputs are named after the other's and are unique so.

    Names that a graph gives by itself may be those of a graph around it.
    """
    words = names.split()
    outputs = new_node(node, operator, inputs, attributes, num_outputs=len(words)).outputs
    for value, word in zip(outputs, words, strict=True):
        value.name = f"{node.outputs[0].name}_{word}"
    return outputs


def _beside(stored: ir.Value, array: Array, name: str) -> ir.Value:
    """Register a constant in the graph that holds another, where every reader of that sees it."""
    graph = stored.graph
    if not isinstance(graph, ir.Graph):
        raise TypeError(f"{stored.name} is in no graph that could hold a constant")
    return registered(graph, array, name)
