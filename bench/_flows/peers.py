"""The two contestants: the toolkit, and one plain call of `torch.onnx.export`."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import torch

import toolkit
from _flows.child import first_line
from _flows.places import Place, as_written, made
from toolkit.capture.capture import example, probe_outputs, quiet
from toolkit.capture.module import entry_module

NO_OPERATOR = re.compile(r"No ONNX function found for <OpOverload\(op='([^']+)'")


def export_ours(place: Place, folder: Path) -> dict[str, Any]:
    """Export an entry with the toolkit at its defaults.

    Returns:
        `file`, or the `reason` that there is none; seconds of the whole and, by wall clock, of the
        capture alone (every strategy that was tried; verification apart); strategy and nodes.
    """
    model, entry = made(place)
    clock = _Clock()
    exported = toolkit.export(model, [entry], folder)[entry.name]
    row: dict[str, Any] = clock.read()
    if not exported.outcome.ok:
        return {**row, "reason": exported.outcome.reason}
    told = {key: exported.detail[key] for key in exported.detail if key not in _ELSEWHERE}
    return {
        **row,
        **told,
        "file": str(exported.path),
        "capture_s": sum(attempt["seconds"] for attempt in told["attempts"]),
        "nodes": count_nodes(exported.path),
    }


_ELSEWHERE = ("signature", "file", "sha256", "outcome")


def export_plain(place: Place, folder: Path) -> dict[str, Any]:
    """Export an entry as people do who do not have the toolkit; same form of answer."""
    model, entry = as_written(place)
    inputs = tuple(example(item) for item in entry.inputs)
    outputs = probe_outputs(model, entry, inputs)
    module = entry_module(model, entry).eval()
    shapes = tuple({axis: d for axis, d in enumerate(item.dims) if d} for item in entry.inputs)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "plain.onnx"
    torch._dynamo.reset()  # noqa: SLF001  (the warm-up must not leave a cache)
    clock = _Clock()
    try:
        with quiet(), torch.no_grad():
            torch.onnx.export(
                module,
                inputs,
                path,
                dynamo=True,
                dynamic_shapes=(shapes,),
                input_names=[item.name for item in entry.inputs],
                output_names=outputs,
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # noqa: BLE001  (whatever the exporter raises is its answer)
        return {**clock.read(), "reason": _cause(error)}
    return {**clock.read(), "file": str(path), "nodes": count_nodes(path)}


PEERS = {"ours": export_ours, "plain": export_plain}


def count_nodes(path: Path) -> int:
    """Return the nodes of a graph, the bodies of its loops, branches and functions included."""
    model = onnx.load(path, load_external_data=False)
    functions = [node for function in model.functions for node in function.node]
    return sum(1 for _ in _nested([*model.graph.node, *functions]))


def _nested(nodes: Any) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                yield from _nested(body.node)


class _Clock:
    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        wall = time.perf_counter() - self._wall
        return {"wall_s": wall, "cpu_s": time.process_time() - self._cpu}


def _cause(error: BaseException) -> str:
    """Return the operator without a translation, or the first line of the error at the bottom."""
    while error.__cause__ is not None:
        error = error.__cause__
    known = NO_OPERATOR.search(str(error))
    return f"no ONNX operator for {known[1]}" if known else first_line(error)
