"""Trace the body of an ONNX `Scan` inside a translation, where a loop beats unrolling."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import onnx_ir as ir
from onnxscript import evaluator
from onnxscript import opset18 as op

Body = Callable[..., tuple[Sequence[Any], Sequence[Any]]]


def scan(body: Body, states: Sequence[Any], slices: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Emit a `Scan`, which runs `body` once per row of the slices.

    The body may read values of the translation around it, and may itself scan.

    Arguments:
        body: Takes the states and one row of each slice; returns the new states, of the same
            shapes and types, and the rows to be stacked.
        states: Values that are carried from step to step.
        slices: Values that are cut along their first axis, one row per step.

    Returns:
        The last states, and every stacked row along a new first axis.
    """
    outer: Any = evaluator.default()
    inner = copy.copy(outer)
    # What the body makes must not be found by code outside of it.
    inner.nodes, inner.constant_farm = [], {}
    inputs = [ir.Value() for _ in (*states, *slices)]
    with evaluator.default_as(inner):
        ends, stacked = body(*inputs)
        # A body's output must not be its input, nor be listed twice.
        outputs = [op.Identity(value) for value in (*ends, *stacked)]
    _name(inputs, inner.nodes)
    node = ir.Node(
        "",
        "Scan",
        [*states, *slices],
        [
            ir.AttrGraph("body", ir.Graph(inputs, outputs, nodes=inner.nodes, name="body")),
            ir.AttrInt64("num_scan_inputs", len(slices)),
        ],
        num_outputs=len(outputs),
        version=18,
    )
    outer.nodes.append(node)
    return list(node.outputs[: len(states)]), list(node.outputs[len(states) :])


def _name(inputs: Sequence[Any], nodes: Sequence[Any]) -> None:
    """Give the body's values names that no graph around it uses, however deep it is nested."""
    depth = 1 + max((_depth(node) for node in nodes), default=0)
    values = [*inputs, *(output for node in nodes for output in node.outputs)]
    for index, value in enumerate(values):
        value.name = f"scan_{depth}_{index}"


def _depth(node: Any) -> int:
    bodies = [item.as_graph() for item in node.attributes.values() if item.name == "body"]
    return max((1 + max((_depth(n) for n in body), default=0) for body in bodies), default=0)
