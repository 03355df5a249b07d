"""Put Log(1 + u) in the place of the form that keeps the digits of small u.

The lost digits are below 1e-7 of the result, which a sum does not feel and a logarithm does.
Parity decides whether a graph keeps it.
"""

from __future__ import annotations

import onnx_ir as ir

from toolkit.passes._graph import LocalRewrite, drop, producer, replace, scalar, stands_for


def shorten_log1p(graph: ir.Graph, node: ir.Node) -> bool:
    """Replace one `Log(w) + (u - (w - 1))` of `w = u + 1` by its first term.

    What was lost may be chosen where u is small, and nothing elsewhere.
    """
    del graph
    if producer(node.outputs[0], "Add") is None:
        return False
    logarithm, chosen = producer(node.inputs[0], "Log"), producer(node.inputs[1], "Where")
    if chosen is not None and scalar(chosen.inputs[2]) != 0.0:
        return False
    lost = producer((chosen or node).inputs[1], "Sub")
    total = producer(logarithm.inputs[0], "Add") if logarithm is not None else None
    back = producer(lost.inputs[1], "Sub") if lost is not None else None
    if logarithm is None or lost is None or total is None or back is None:
        return False
    if scalar(total.inputs[1]) != 1.0 or scalar(back.inputs[1]) != 1.0:
        return False
    if lost.inputs[0] is not total.inputs[0] or back.inputs[0] is not total.outputs[0]:
        return False
    kept, wanted = logarithm.outputs[0], node.outputs[0]
    if not stands_for(kept, wanted, node):
        return False
    replace(wanted, kept)
    drop(node)
    return True


rewrite = LocalRewrite(
    order=59,
    portable=True,
    rule=shorten_log1p,
    absent="no log1p that is spelled out",
)
