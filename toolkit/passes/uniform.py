"""Put constants in the place of values that are equal for every sample.

A sequential inverse starts from zeros, and a log-determinant of weights alone is the same number
for the whole batch: what is computed from them is computed once, here, in double precision.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from toolkit.core.protocols import Change
from toolkit.passes._graph import (
    STANDARD,
    Array,
    constant,
    dims,
    has_body,
    is_op,
    new_constant,
    remove_unused,
    repeated,
)
from toolkit.passes.sink_transposes import BROADCAST

Shape = tuple[int | str, ...]
LARGEST = 65_536
SIZES = (1, 2)
"""A dynamic axis is tried at both lengths: what is equal along it does not tell them apart."""


@dataclass(frozen=True, slots=True)
class Uniform:
    """Operands that every sample shares become constants with an axis of one for the samples."""

    order: int = 42
    portable: bool = True

    def __call__(self, model: ir.Model) -> Change:
        """Rewrite the model in place."""
        opset = model.opset_imports[""]
        count = sum(_rewritten(graph, opset) for graph in list(model.graphs()))
        if not count:
            return Change(0, "no operand is computed that every sample shares")
        remove_unused(model)
        return Change(count)


def _rewritten(graph: ir.Graph, opset: int) -> int:
    """Follow what is known through one graph; return how many operands became constants."""
    count = 0
    known: dict[ir.Value, Array] = {}
    stored: dict[ir.Value, ir.Value] = {}
    for node in tuple(graph):
        if (found := _shared(node, known, opset)) is not None:
            known.update(zip(node.outputs, found, strict=True))
            continue
        for place, value in enumerate(node.inputs):
            if value in known and _spreads(node, place):
                if value not in stored:
                    dtype = (value.dtype or ir.DataType.FLOAT).numpy()
                    stored[value] = new_constant(node, known[value].astype(dtype), "shared")
                node.replace_input_with(place, stored[value])
                count += 1
    return count


def _spreads(node: ir.Node, place: int) -> bool:
    """Return whether another operand has the result's shape, so that this one may be a row."""
    shape = dims(node.outputs[0])
    others = [value for other, value in enumerate(node.inputs) if other != place]
    return is_op(node, *BROADCAST) and shape is not None and shape in map(dims, others)


def _shared(node: ir.Node, known: dict[ir.Value, Array], opset: int) -> list[Array] | None:
    """Return a node's results for one sample; `None` where samples may differ."""
    shapes = [dims(value) for value in node.outputs]
    if node.domain not in STANDARD or any(not _is_small(shape) for shape in shapes):
        return None
    if is_op(node, "Expand", "ConstantOfShape"):
        spread = _spread(node, known, shapes[0] or ())
        return None if spread is None else [spread]
    given = [value for value in node.inputs if value is not None]
    if any(value not in known and constant(value) is None for value in given):
        return None
    if known.keys().isdisjoint(given) or has_body(node):
        return None
    try:
        runs = [_evaluated(node, known, size, opset) for size in SIZES]
    except Exception:  # noqa: BLE001  (what the reference evaluator does not run stays)
        return None
    results = [
        _one_sample(shape or (), values)
        for shape, values in zip(shapes, zip(*runs, strict=True), strict=True)
    ]
    return None if any(item is None for item in results) else results  # type: ignore[return-value]


def _spread(node: ir.Node, known: dict[ir.Value, Array], shape: Shape) -> Array | None:
    """Return what an Expand or ConstantOfShape repeats for every sample."""
    first = node.inputs[0]
    array = known[first] if is_op(node, "Expand") and first in known else repeated(node)
    target = [size if isinstance(size, int) else 1 for size in shape]
    if array is None or np.broadcast_shapes(array.shape, target) != tuple(target):
        return None
    return np.broadcast_to(array, target)


def _evaluated(
    node: ir.Node, known: dict[ir.Value, Array], size: int, opset: int
) -> Sequence[Array]:
    """Return a node's results where dynamic axes are `size` long, in double precision."""
    from onnx.reference import ReferenceEvaluator

    feeds = {}
    for value in node.inputs:
        if value is None:
            continue
        array = known[value] if value in known else constant(value)
        if array is None:
            raise ValueError(f"{value.name} is not known")
        if value in known:
            for axis, length in enumerate(dims(value) or ()):
                array = array if isinstance(length, int) else array.repeat(size, axis)
        floating = np.issubdtype(array.dtype, np.floating)
        feeds[str(value.name)] = array.astype(np.float64) if floating else array
    evaluator = ReferenceEvaluator(ir.to_proto(node), opsets={"": opset})
    with np.errstate(all="ignore"):
        return [np.asarray(result) for result in evaluator.run(None, feeds)]


def _one_sample(shape: Shape, values: Sequence[Array]) -> Array | None:
    """Return what all samples share; `None` where the two lengths or two samples differ."""
    rows = []
    for value in values:
        row = value
        if value.ndim != len(shape):
            return None
        for axis, length in enumerate(shape):
            row = row if isinstance(length, int) else row.take([0], axis)
        fits = all(
            not isinstance(length, int) or length == own
            for length, own in zip(shape, row.shape, strict=True)
        )
        if not fits or not _equal(row, value):
            return None
        rows.append(row)
    return rows[0] if _equal(rows[0], rows[1]) else None


def _equal(row: Array, value: Array) -> bool:
    """Return whether all samples of a value are one row, up to the order of its sums."""
    if not np.issubdtype(row.dtype, np.floating):
        return np.array_equal(np.broadcast_to(row, value.shape), value)
    largest = float(np.max(np.abs(row), initial=0, where=np.isfinite(row)))
    return np.allclose(row, value, rtol=1e-10, atol=1e-13 * largest, equal_nan=True)


def _is_small(shape: Shape | None) -> bool:
    """Return whether a shape is known and one sample of it may be stored."""
    sizes = [size for size in shape or () if isinstance(size, int)]
    return shape is not None and 0 < math.prod(sizes) <= LARGEST


rewrite = Uniform()
