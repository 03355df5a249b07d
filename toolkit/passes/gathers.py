"""Follow features through constant positions: most are read where they are made.

A coupling layer takes its features apart and puts them together at fixed positions, and so does
the next one: what the second takes is what the first put there.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from toolkit.passes._graph import (
    Array,
    LocalRewrite,
    constant,
    drop,
    integer,
    ints,
    is_op,
    new_constant,
    new_node,
    only_user,
    producer,
    replace,
    stands_for,
)


def follow(graph: ir.Graph, node: ir.Node) -> bool:
    """Shorten the way to what one Gather reads, or put what ScatterNDs write side by side."""
    del graph
    if is_op(node, "ScatterND"):
        return _assembled(node)
    if is_op(node, "Transpose"):
        return _turned_back(node)
    places = _places(node)
    if places is None:
        return False
    return _in_order(node, places) or _twice(node, places) or _one_part(node, places)


def _turned_back(node: ir.Node) -> bool:
    """Drop a Transpose that undoes another."""
    inner = producer(node.inputs[0], "Transpose")
    source = inner.inputs[0] if inner is not None else None
    if inner is None or source is None or not (node.attributes and inner.attributes):
        return False
    order = ints(inner, "perm", ())
    back = [order[axis] for axis in ints(node, "perm", ())]
    if back != sorted(back) or not stands_for(source, node.outputs[0], node):
        return False
    replace(node.outputs[0], source)
    drop(node)
    return True


def _assembled(last: ir.Node) -> bool:
    """Replace ScatterNDs along the first axis that leave none of the values before them."""
    writers = _writers(last)
    size = _size(last.outputs[0], 0)
    if len(writers) < 2 or size is None:
        return False
    source, offset = np.full(size, -1), 0
    for _, rows in writers:
        source[rows] = offset + np.arange(len(rows))
        offset += len(rows)
    if (source < 0).any():
        return False
    wanted = last.outputs[0]
    joined = new_node(last, "Concat", [writer.inputs[2] for writer, _ in writers], {"axis": 0})
    joined.outputs[0].type = wanted.type
    joined.outputs[0].shape = ir.Shape([offset, *(wanted.shape or ())[1:]])
    _gather(last, joined.outputs[0], source, 0)
    return True


def _writers(last: ir.Node) -> list[tuple[ir.Node, Array]]:
    """Return a chain of ScatterNDs that only the next one reads, first to last, and their rows."""
    found: list[tuple[ir.Node, Array]] = []
    node: ir.Node | None = last
    while node is not None:
        if is_op(node, "ScatterND"):
            rows = _rows(node)
            if rows is None:
                break
            found.append((node, rows))
        data = node.inputs[0]
        alone = data is not None and only_user(data) is node
        node = producer(data, "ScatterND", "Identity") if alone else None
    return found[::-1]


def _rows(node: ir.Node) -> Array | None:
    """Return the entries along the first axis that a ScatterND overwrites."""
    rows, size = constant(node.inputs[1]), _size(node.inputs[0], 0)
    if rows is None or rows.ndim != 2 or rows.shape[1] != 1 or size is None:
        return None
    mode = node.attributes.get("reduction")
    return rows[:, 0] % size if mode is None or mode.as_string() == "none" else None


def _places(node: ir.Node) -> Array | None:
    """Return the constant positions of a Gather along an axis of known size, counted from zero."""
    if not is_op(node, "Gather"):
        return None
    places, size = constant(node.inputs[1]), _size(node.inputs[0], _axis(node))
    return None if places is None or places.ndim != 1 or size is None else places % size


def _in_order(node: ir.Node, places: Array) -> bool:
    """Drop a Gather that takes everything in order."""
    data, wanted = node.inputs[0], node.outputs[0]
    if not np.array_equal(places, np.arange(_size(data, _axis(node)) or 0)) or data is None:
        return False
    if not stands_for(data, wanted, node):
        return False
    replace(wanted, data)
    drop(node)
    return True


def _twice(node: ir.Node, places: Array) -> bool:
    """Take from a Gather's source what is taken from the Gather."""
    inner = producer(node.inputs[0], "Gather")
    first = _places(inner) if inner is not None and _axis(inner) == _axis(node) else None
    if inner is None or first is None:
        return False
    _gather(node, inner.inputs[0], first[places], _axis(node))
    return True


def _one_part(node: ir.Node, places: Array) -> bool:
    """Take from one input of a Concat what lies within it."""
    inner, axis = producer(node.inputs[0], "Concat"), _axis(node)
    if inner is None or _axis(inner) != axis:
        return False
    start = 0
    for part in inner.inputs:
        size = _size(part, axis)
        if size is None:
            return False
        if len(places) and (places >= start).all() and (places < start + size).all():
            _gather(node, part, places - start, axis)
            return True
        start += size
    return False


def _gather(node: ir.Node, data: ir.Value | None, places: Array, axis: int) -> None:
    """Put a Gather at constant positions in the place of a node."""
    wanted = node.outputs[0]
    taken = new_constant(node, places.astype(np.int64), "places")
    made = new_node(node, "Gather", [data, taken], {"axis": axis}, shape_of=wanted)
    replace(wanted, made.outputs[0])
    drop(node)


def _axis(node: ir.Node) -> int:
    """Return the axis along which a node works, counted from the first where the rank is known."""
    axis, data = integer(node, "axis", 0), node.inputs[0]
    return axis if data is None or data.shape is None else axis % len(data.shape)


def _size(value: ir.Value | None, axis: int) -> int | None:
    """Return the size of an axis, where it is a number."""
    if value is None or value.shape is None:
        return None
    size = value.shape[axis]
    return size if isinstance(size, int) else None


rewrite = LocalRewrite(
    order=60,
    portable=True,
    rule=follow,
    absent="no constant positions that could be followed",
)
