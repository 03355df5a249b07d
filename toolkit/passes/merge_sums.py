"""Merge the constants of a chain of additions, such as constant log-determinants, into one."""

from __future__ import annotations

import onnx_ir as ir

from toolkit.passes._graph import LocalRewrite, dims, drop, replace
from toolkit.passes._terms import flatten, is_root, rebuild


def merge_sum(graph: ir.Graph, root: ir.Node) -> bool:
    """Rebuild one tree of additions with a single constant, where that takes fewer nodes."""
    del graph
    if not is_root(root):
        return False
    terms = flatten(root)
    if terms is None or not terms.values or terms.total() is None:
        return False
    shape = dims(root.outputs[0])
    if not any(dims(value) == shape for _, value in terms.values):
        return False
    if terms.cost(shape) >= len(terms.nodes) and not terms.broadcast:
        return False
    replace(root.outputs[0], rebuild(root, terms))
    drop(root)
    return True


rewrite = LocalRewrite(
    order=44,
    portable=True,
    rule=merge_sum,
    absent="no chain of additions holds more than one constant",
)
