"""Parity of exported files with the flow in eager, on fresh inputs at other batch sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime
import torch

from _flows.child import first_line
from _flows.places import Place, made
from toolkit.capture.capture import example, probe_outputs
from toolkit.capture.module import as_tuple, reference_module
from toolkit.capture.oracle import Oracle
from toolkit.checks._draw import like
from toolkit.core.entry import Entry

BATCHES = (7, 64, 1)
LIMIT = 1e-4

Feeds = dict[str, torch.Tensor]
Arrays = Sequence[np.ndarray]


def judge(place: Place, files: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Judge each peer's file at every batch.

    Returns:
        Per peer its error per batch, `ok`, and the first reason why not. Under `eager` the error
        of eager in float32 against the flow in float64, so that ill-conditioned entries show.
    """
    model, entry = made(place)
    names = probe_outputs(model, entry, [example(item) for item in entry.inputs])
    feeds = {batch: drawn(entry, batch) for batch in BATCHES}
    eager = {batch: _eager(model, entry, feeds[batch]) for batch in BATCHES}
    found = {
        peer: verdict({b: _error(file, feeds[b], eager[b], names) for b in BATCHES})
        for peer, file in files.items()
    }
    oracle = {b: _oracle_error(model, entry, feeds[b], eager[b], names) for b in BATCHES}
    return {**found, "eager": verdict(oracle)}


def drawn(entry: Entry, batch: int) -> Feeds:
    """Return inputs that are drawn like the entry's examples and were seen by no export."""
    draws = torch.Generator().manual_seed(1000 + batch)
    return {item.name: like(item, batch, draws) for item in entry.inputs}


def session(file: str) -> onnxruntime.InferenceSession:
    """Open a file in ONNX Runtime on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def feeds_of(opened: onnxruntime.InferenceSession, inputs: Feeds) -> dict[str, np.ndarray]:
    """Return the inputs that a graph takes; an exporter may drop one that changes nothing."""
    return {item.name: inputs[item.name].numpy() for item in opened.get_inputs()}


def deviation(got: np.ndarray, expected: np.ndarray) -> tuple[float, str]:
    """Return max |got − expected| / max(1, |expected|), and what is wrong beyond numbers.

    Where the expected value is infinite or not a number, the same is asked for.
    """
    if got.shape != expected.shape:
        return float("inf"), f"shape {list(got.shape)} instead of {list(expected.shape)}"
    got, expected = got.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(expected)
    if not finite.any() and finite.size:
        return float("inf"), "eager gives no finite number"
    if not np.array_equal(got[~finite], expected[~finite], equal_nan=True):
        return float("inf"), "not infinite or NaN where eager is"
    if not np.isfinite(got[finite]).all():
        return float("inf"), "infinite or NaN where eager is finite"
    got, expected = got[finite], expected[finite]
    scaled = np.abs(got - expected) / np.maximum(1.0, np.abs(expected))
    return float(scaled.max(initial=0.0)), ""


def verdict(errors: Mapping[int, tuple[float, str]]) -> dict[str, Any]:
    """Return whether every batch is within the limit, every error, and the first reason."""
    reasons = [
        f"batch {batch}: {reason or f'error {error:.3g}'}"
        for batch, (error, reason) in errors.items()
        if reason or not error <= LIMIT
    ]
    return {
        "ok": not reasons,
        "errors": {str(batch): error for batch, (error, _) in errors.items()},
        "reason": reasons[0] if reasons else "",
    }


def _error(
    file: str, inputs: Feeds, expected: Arrays | str, names: Sequence[str]
) -> tuple[float, str]:
    if isinstance(expected, str):
        return float("inf"), expected
    try:
        opened = session(file)
        got = opened.run(names, feeds_of(opened, inputs))
    except Exception as error:  # noqa: BLE001  (a graph that does not run is the finding)
        return float("inf"), f"does not run: {first_line(error)}"
    return max(deviation(g, e) for g, e in zip(got, expected, strict=True))


def _eager(model: torch.nn.Module, entry: Entry, inputs: Feeds) -> Arrays | str:
    """Return the outputs in eager, or why there are none."""
    try:
        with torch.no_grad():
            values = reference_module(model, entry)(*(v.clone() for v in inputs.values()))
    except Exception as error:  # noqa: BLE001  (whatever the library raises is the finding)
        return f"eager fails: {first_line(error)}"
    return [value.detach().numpy() for value in as_tuple(values)]


def _oracle_error(
    model: torch.nn.Module,
    entry: Entry,
    inputs: Feeds,
    eager: Arrays | str,
    names: Sequence[str],
) -> tuple[float, str]:
    if isinstance(eager, str):
        return float("inf"), eager
    try:
        exact = Oracle(model, entry, names).answer("flows", "drawn", inputs).oracle
    except Exception as error:  # noqa: BLE001  (not every flow runs in float64)
        return float("inf"), f"no float64: {first_line(error)}"
    return max(deviation(e, exact[name]) for name, e in zip(names, eager, strict=True))
