"""Put Sigmoid, one operator, in the place of 1 / (1 + Exp(-x)).

Both are the same function; a runtime's own may lose relative digits far below zero, which a gate
does not feel and a logarithm does. Parity decides whether a graph keeps it.
"""

from __future__ import annotations

import onnx_ir as ir

from toolkit.passes._graph import LocalRewrite, drop, new_node, producer, replace, scalar


def contract_sigmoid(graph: ir.Graph, node: ir.Node) -> bool:
    """Replace one reciprocal of one plus an exponential of something negated."""
    del graph
    total = producer(node.outputs[0], "Reciprocal") and producer(node.inputs[0], "Add")
    if total is None:
        return False
    first, second = total.inputs
    grown, one = (second, first) if scalar(first) is not None else (first, second)
    power = producer(grown, "Exp")
    negated = producer(power.inputs[0], "Neg") if power is not None else None
    if negated is None or scalar(one) != 1.0:
        return False
    wanted = node.outputs[0]
    made = new_node(node, "Sigmoid", [negated.inputs[0]], shape_of=wanted)
    replace(wanted, made.outputs[0])
    drop(node)
    return True


rewrite = LocalRewrite(
    order=58,
    portable=True,
    rule=contract_sigmoid,
    absent="no sigmoid that is spelled out",
)
