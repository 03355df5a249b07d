"""Trace the body of an ONNX `Scan` or `Loop` inside a translation, where that beats unrolling."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from onnxscript import evaluator
from onnxscript import opset18 as op


def scan(
    body: Callable[..., tuple[Sequence[Any], Sequence[Any]]],
    states: Sequence[Any],
    slices: Sequence[Any],
) -> tuple[list[Any], list[Any]]:
    """Emit a `Scan`, which runs `body` once per row of the slices.

    The body may read values of the translation around it, and may itself loop.

    Arguments:
        body: Takes the states and one row of each slice; returns the new states, of the same
            shapes and types, and the rows to be stacked.
        states: Values that are carried from step to step.
        slices: Values that are cut along their first axis, one row per step.

    Returns:
        The last states, and every stacked row along a new first axis.
    """
    inputs = [ir.Value() for _ in (*states, *slices)]

    def joined() -> list[Any]:
        ends, stacked = body(*inputs)
        return [*ends, *stacked]

    outputs = _emit("Scan", [*states, *slices], inputs, joined, num_scan_inputs=len(slices))
    return outputs[: len(states)], outputs[len(states) :]


def loop(
    body: Callable[..., tuple[Any, Sequence[Any]]], states: Sequence[Any], *, trips: Any
) -> list[Any]:
    """Emit a `Loop`, which runs `body` until it says so, or `trips` times.

    Arguments:
        body: Takes the step's number and the states; returns whether to go on, or nothing where
            only the number of trips counts, and the new states.
        states: Values that are carried from step to step.
        trips: The largest number of steps, a 64-bit integer without axes.

    Returns:
        The last states.
    """
    count = ir.Value(type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape([]))
    going = ir.Value(type=ir.TensorType(ir.DataType.BOOL), shape=ir.Shape([]))
    carried = [ir.Value() for _ in states]

    def joined() -> list[Any]:
        goes_on, ends = body(count, *carried)
        # TensorRT does not know the condition that comes in.
        always = op.Constant(value=ir.tensor(np.ones((), np.bool_)))
        return [always if goes_on is None else goes_on, *ends]

    return _emit("Loop", [trips, None, *states], [count, going, *carried], joined, dropped=1)


def _emit(
    operator: str,
    arguments: Sequence[Any],
    inputs: Sequence[Any],
    body: Callable[[], list[Any]],
    dropped: int = 0,
    **attributes: int,
) -> list[Any]:
    """Emit the node; its first `dropped` body outputs have no output of the node."""
    outer: Any = evaluator.default()
    inner = copy.copy(outer)
    # What the body makes must not be found by code outside of it.
    inner.nodes, inner.constant_farm = [], {}
    with evaluator.default_as(inner):
        # A body's output must not be its input, nor be listed twice.
        outputs = [op.Identity(value) for value in body()]
    _name(inputs, inner.nodes)
    graph = ir.Graph(inputs, outputs, nodes=inner.nodes, name="body")
    node = ir.Node(
        "",
        operator,
        arguments,
        [
            ir.AttrGraph("body", graph),
            *(ir.AttrInt64(name, value) for name, value in attributes.items()),
        ],
        num_outputs=len(outputs) - dropped,
        version=18,
    )
    outer.nodes.append(node)
    return list(node.outputs)


def _name(inputs: Sequence[Any], nodes: Sequence[Any]) -> None:
    """Give the body's values names that no graph around it uses, however deep it is nested."""
    depth = 1 + max((_depth(node) for node in nodes), default=0)
    values = [*inputs, *(output for node in nodes for output in node.outputs)]
    for index, value in enumerate(values):
        value.name = f"body_{depth}_{index}"


def _depth(node: Any) -> int:
    bodies = [item.as_graph() for item in node.attributes.values() if item.name == "body"]
    return max((1 + max((_depth(n) for n in body), default=0) for body in bodies), default=0)
