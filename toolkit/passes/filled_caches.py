"""Let attention in a loop read as much of a cache as is filled, instead of all of it behind a mask.

A loop whose states keep their size carries caches for the longest sequence. What lies behind the
filled places is hidden by minus infinity before a softmax, so that its weight is zero: the keys,
the mask and the values may end where the filled places end. TensorRT refuses shapes that change
within a loop, so this serves ONNX Runtime alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import onnx_ir as ir

from toolkit.passes._graph import (
    LocalRewrite,
    constant,
    dims,
    integer,
    is_op,
    new_constant,
    new_node,
    producer,
)

RAW, HIDDEN, ZERO, MASK = "raw", "hidden", "zero", "mask"


@dataclass(frozen=True, slots=True)
class Places:
    """Where a value holds the places of a cache.

    Arguments:
        axis: Their axis, counted from the end.
        kind: What the places that are not filled hold: anything, minus infinity, zero; or whether
            the value is the mask itself.
        tail: Entries behind the places.
    """

    axis: int
    kind: str
    tail: int = 0


@dataclass(slots=True)
class Reading:
    """How a loop's body reads caches.

    Arguments:
        size: Places of a cache.
        caches: Values from outside, with their axis of places, counted from the end.
        values: What is known of the values in the body.
        splits: They take the places from what is behind them.
        views: They move axes of size 1.
    """

    size: int
    caches: dict[ir.Value, int] = field(default_factory=dict)
    values: dict[ir.Value, Places] = field(default_factory=dict)
    splits: list[ir.Node] = field(default_factory=list)
    views: list[ir.Node] = field(default_factory=list)


class _Unknown(Exception):
    """A node reads the places in a way that the rules below do not tell."""


def shorten(graph: ir.Graph, node: ir.Node) -> bool:
    """Rewrite what one mask of filled places hides."""
    found = _mask(node)
    loop = _loop_reading(node, graph)
    if found is None or loop is None:
        return False
    count, size = found
    body = _body(loop)
    try:
        reading = _read(body, node.outputs[0], size)
    except _Unknown:
        return False
    if not reading.splits or not reading.caches:
        return False
    _rewrite(loop, body, node.outputs[0], count, reading)
    return True


def _mask(node: ir.Node) -> tuple[ir.Value, int] | None:
    """Return how many places a mask shows and of how many, where the node makes such a mask."""
    if not is_op(node, "Where"):
        return None
    shown, hidden = (constant(value) for value in node.inputs[1:])
    less = producer(node.inputs[0], "Less")
    if shown is None or hidden is None or less is None or shown.size != 1 or hidden.size != 1:
        return None
    places, count = constant(less.inputs[0]), less.inputs[1]
    if float(shown) != 0 or float(hidden) != -np.inf or places is None or places.ndim != 1:
        return None
    whole = np.array_equal(places, np.arange(len(places)))
    if not whole or count is None or dims(count) != () or constant(count) is not None:
        return None
    return count, len(places)


def _loop_reading(node: ir.Node, graph: ir.Graph) -> ir.Node | None:
    """Return the loop whose body alone reads the mask."""
    bodies = {use.node.graph for use in node.outputs[0].uses()} if is_op(node, "Where") else set()
    loops = (other for other in graph if is_op(other, "Scan", "Loop"))
    return next((loop for loop in loops if bodies == {_body(loop)}), None)


def _body(loop: ir.Node) -> ir.Graph:
    return loop.attributes["body"].as_graph()


def _read(body: ir.Graph, mask: ir.Value, size: int) -> Reading:
    reading = Reading(size)
    reading.values[mask] = Places(-1, MASK)
    for value, axis in _candidates(body, size):
        reading.caches[value] = axis
        reading.values[value] = Places(axis, RAW)
    for node in body:
        if any(value in reading.values for value in node.inputs if value is not None):
            _follow(reading, node)
    made = [value for value in reading.values if value is not mask and value not in reading.caches]
    inside = all(use.node.graph is body for value in made for use in value.uses())
    if not inside or any(value.is_graph_output() for value in made):
        raise _Unknown
    return reading


def _candidates(body: ir.Graph, size: int) -> Iterator[tuple[ir.Value, int]]:
    """Yield the values from outside that products alone read, with the axis of this size."""
    seen: set[ir.Value] = set()
    for node in body:
        for value in node.inputs if is_op(node, "MatMul") else ():
            if value is None or value in seen or _own(value, body) or constant(value) is not None:
                continue
            seen.add(value)
            shape = dims(value)
            uses = [use.node for use in value.uses() if use.node.graph is body]
            if shape is None or shape.count(size) != 1:
                continue
            if len(shape) > 1 and all(is_op(user, "MatMul") for user in uses):
                yield value, shape.index(size) - len(shape)


def _own(value: ir.Value, body: ir.Graph) -> bool:
    maker = value.producer()
    return value in body.inputs if maker is None else maker.graph is body


def _follow(reading: Reading, node: ir.Node) -> None:
    """Say what a node makes of the places.

    Raises:
        _Unknown: No rule tells.
    """
    given = [reading.values.get(value) if value is not None else None for value in node.inputs]
    if not is_op(node, *RULES):
        raise _Unknown
    made = RULES[node.op_type](reading, node, given)
    if made is not None:
        reading.values[node.outputs[0]] = made


def _product(_: Reading, node: ir.Node, given: list[Places | None]) -> Places | None:
    left, right = given
    if left is not None and right is not None:
        # Weights of zero: what they weigh may be anything finite, and may be left out.
        if left == Places(-1, ZERO) and right == Places(-2, RAW):
            return None
        raise _Unknown
    # Products of rows are columns: each entry is of one place.
    if left is not None and left == Places(-2, RAW) and len(dims(node.inputs[0]) or ()) > 1:
        return left
    if right is not None and right == Places(-1, RAW):
        return right
    raise _Unknown


def _sum(_: Reading, node: ir.Node, given: list[Places | None]) -> Places:
    first, second = given
    if first is not None and second is not None:
        kinds = {first.kind, second.kind}
        if (first.axis, first.tail) == (second.axis, second.tail) and kinds == {RAW, MASK}:
            return replace(first, kind=HIDDEN)
        raise _Unknown
    return _scaled(_, node, given)


def _scaled(_: Reading, node: ir.Node, given: list[Places | None]) -> Places:
    """Return what an operator makes of places and one number for all of them."""
    place = next(index for index, item in enumerate(given) if item is not None)
    found, other = given[place], dims(node.inputs[1 - place])
    if found is None or found.kind != RAW or other is None:
        raise _Unknown
    if len(other) >= -found.axis and other[found.axis] != 1:
        raise _Unknown
    rank = len(dims(node.inputs[place]) or ())
    if len(other) > rank:
        raise _Unknown
    return found


def _joined(_: Reading, node: ir.Node, given: list[Places | None]) -> Places:
    first, shapes = given[0], [dims(value) for value in node.inputs]
    if first is None or any(given[1:]) or any(shape is None for shape in shapes):
        raise _Unknown
    axis = integer(node, "axis", 0)
    rank = len(shapes[0] or ())
    if (axis if axis < 0 else axis - rank) != first.axis:
        raise _Unknown
    sizes = [shape[first.axis] for shape in shapes[1:] if shape is not None]
    if not all(isinstance(size, int) for size in sizes):
        raise _Unknown
    return replace(first, tail=first.tail + sum(size for size in sizes if isinstance(size, int)))


def _softmax(_: Reading, node: ir.Node, given: list[Places | None]) -> Places:
    (found,) = given
    axis, rank = integer(node, "axis", -1), len(dims(node.inputs[0]) or ())
    if found is None or found.kind != HIDDEN or (axis if axis < 0 else axis - rank) != found.axis:
        raise _Unknown
    # Something must be shown where no place is filled.
    if not found.tail:
        raise _Unknown
    return replace(found, kind=ZERO)


def _split(reading: Reading, node: ir.Node, given: list[Places | None]) -> Places:
    found = given[0]
    axis, rank = integer(node, "axis", 0), len(dims(node.inputs[0]) or ())
    sizes = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    if found is None or sizes is None or (axis if axis < 0 else axis - rank) != found.axis:
        raise _Unknown
    if sizes[0] != reading.size or sizes.sum() != reading.size + found.tail:
        raise _Unknown
    reading.splits.append(node)
    return replace(found, tail=0)


def _view(reading: Reading, node: ir.Node, given: list[Places | None]) -> Places:
    """Return where the places are behind a Reshape that moves axes of size 1 alone."""
    found, before, after = given[0], dims(node.inputs[0]), dims(node.outputs[0])
    if found is None or before is None or after is None or _new_shape(node, found) is None:
        raise _Unknown
    kept = [size for size in before if size != 1]
    if kept != [size for size in after if size != 1]:
        raise _Unknown
    rank = sum(size != 1 for size in before[found.axis :])
    places = [axis for axis in range(-len(after), 0) if after[axis] != 1]
    reading.views.append(node)
    return replace(found, axis=places[-rank])


def _new_shape(node: ir.Node, found: Places) -> list[int] | None:
    """Return what a Reshape is asked for where the number of places is free."""
    before, after = dims(node.inputs[0]), dims(node.outputs[0])
    if before is None or after is None:
        return None
    size, shape = before[found.axis], list[int]()
    for axis, wanted in enumerate(after):
        if wanted == size:
            shape.append(-1)
        elif isinstance(wanted, int):
            shape.append(wanted)
        elif axis < len(before) and before[axis] == wanted:
            shape.append(0)
        else:
            return None
    return shape if shape.count(-1) == 1 and before.count(size) == 1 else None


RULES = {
    "MatMul": _product,
    "Add": _sum,
    "Mul": _scaled,
    "Div": _scaled,
    "Concat": _joined,
    "Softmax": _softmax,
    "Split": _split,
    "Reshape": _view,
}


def _rewrite(
    loop: ir.Node, body: ir.Graph, mask: ir.Value, count: ir.Value, reading: Reading
) -> None:
    first, one = (
        new_constant(loop, np.array([value]), name) for value, name in ((0, "first"), (-1, "flat"))
    )
    # A slice takes an end below zero for one counted from behind.
    limits = [new_constant(loop, np.array(number), "limit") for number in (0, reading.size)]
    least = new_node(loop, "Clip", [count, *limits], shape_of=count)
    end = new_node(loop, "Reshape", [least.outputs[0], one]).outputs[0]
    end.type, end.shape = ir.TensorType(ir.DataType.INT64), ir.Shape([1])
    for value, axis in [(mask, -1), *reading.caches.items()]:
        rank = len(dims(value) or ())
        where = new_constant(loop, np.array([axis + rank]), "axis")
        part = new_node(loop, "Slice", [value, first, end, where], shape_of=value).outputs[0]
        _free(part, axis)
        for use in [use for use in value.uses() if use.node.graph is body]:
            use.node.replace_input_with(use.idx, part)
    for node in reading.views:
        found = reading.values[node.inputs[0]]  # type: ignore[index]
        shape = new_constant(loop, np.array(_new_shape(node, found)), "shape")
        node.replace_input_with(1, shape)
        node.attributes.pop("allowzero", None)
    for node in reading.splits:
        sizes = constant(node.inputs[1])
        if sizes is None:
            continue
        rest = new_constant(loop, sizes[1:].astype(np.int64), "sizes")
        parts = new_node(loop, "Concat", [end, rest], {"axis": 0}).outputs[0]
        parts.type, parts.shape = ir.TensorType(ir.DataType.INT64), ir.Shape([len(sizes)])
        node.replace_input_with(1, parts)
        node.attributes.pop("num_outputs", None)
    for value, found in reading.values.items():
        if value is not mask and value not in reading.caches:
            _free(value, found.axis)


def _free(value: ir.Value, axis: int) -> None:
    """Leave a value's size on an axis open."""
    if value.shape is not None:
        sizes = list(value.shape)
        sizes[axis] = ir.SymbolicDim(None)
        value.shape = ir.Shape(sizes)


rewrite = LocalRewrite(
    order=97,
    portable=False,
    rule=shorten,
    absent="no loop attends to a cache behind a mask of its filled places",
)
