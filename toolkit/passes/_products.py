"""Convolutions and matrix products: how large they are."""

from __future__ import annotations

import math

import onnx_ir as ir

from toolkit.passes._graph import is_op

PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
SMALLEST_PRODUCT = 32
"""Below this many summands a product gains nothing from a lower precision."""


def product_size(node: ir.Node) -> int:
    """Return how many numbers each output of a product sums up; 0 for other nodes.

    A product whose second factor is computed counts as large.
    """
    if not is_op(node, *PRODUCTS):
        return 0
    weight = node.inputs[1]
    if weight is None or weight.shape is None or not weight.shape.is_static():
        return SMALLEST_PRODUCT
    sizes = [int(size) for size in weight.shape if isinstance(size, int)]
    if is_op(node, "Conv"):
        return math.prod(sizes[1:])
    if is_op(node, "ConvTranspose"):
        return sizes[0]
    return min(sizes[-2:], default=SMALLEST_PRODUCT)


def only_in_loops(model: ir.Model) -> bool:
    """Return whether a model has products, and all of them lie inside loops."""
    inside = any(product_size(node) for node in model.graph.all_nodes())
    return inside and not any(product_size(node) for node in model.graph)
