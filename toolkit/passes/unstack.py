"""Let a linear layer give the parameters of a feature one kind after the other.

A library lays them side by side and takes them apart along a last axis, number by number; with the
rows of the weights in another order each kind is one piece of the layer's output.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from toolkit.passes._graph import (
    Array,
    LocalRewrite,
    constant,
    dims,
    drop,
    integer,
    is_op,
    new_constant,
    new_node,
    only_user,
    producer,
    replace,
)


def unstack(graph: ir.Graph, node: ir.Node) -> bool:
    """Rewrite one Reshape of a linear layer's output whose last axis is taken apart."""
    del graph
    if not is_op(node, "Reshape"):
        return False
    layer, shape = producer(node.inputs[0], "Gemm"), dims(node.outputs[0])
    if layer is None or shape is None or only_user(layer.outputs[0]) is not node:
        return False
    flat, features = dims(layer.outputs[0]), [size for size in shape[1:] if isinstance(size, int)]
    if flat is None or flat[0] != shape[0] or len(features) < len(shape[1:]):
        return False
    if len(features) < 2 or math.prod(features) != flat[1]:
        return False
    kinds, taken = features[-1], _taken(node.outputs[0], features[-1])
    if not taken or kinds < 2:
        return False
    order = np.arange(flat[1]).reshape(-1, kinds).T.ravel()
    if not _ordered(layer, order):
        return False
    size = len(order) // kinds
    parts = _parts(node, layer.outputs[0], kinds, size)
    for place, wanted in taken:
        _give(parts[place], wanted)
    return True


def _taken(value: ir.Value, kinds: int) -> list[tuple[int, ir.Value]]:
    """Return each single number that is taken along the last axis; nothing if anything else is."""
    found: list[tuple[int, ir.Value]] = []
    if value.is_graph_output():
        return []
    last = len(value.shape or ()) - 1
    for node, _ in value.uses():
        along = integer(node, "axis", 0) in (last, -1)
        if is_op(node, "Gather") and along:
            place = constant(node.inputs[1])
            if place is None or place.ndim:
                return []
            found.append((int(place) % kinds, node.outputs[0]))
        elif is_op(node, "Split") and along and _ones(node):
            found += enumerate(node.outputs)
        else:
            return []
    return found


def _ones(split: ir.Node) -> bool:
    """Return whether every piece holds one number of each feature."""
    return all((dims(value) or (0,))[-1] == 1 for value in split.outputs)


def _ordered(layer: ir.Node, order: Array) -> bool:
    """Put the outputs of a linear layer in another order, if its weights are constants."""
    weight, bias = constant(layer.inputs[1]), None
    if weight is None or weight.ndim != 2:
        return False
    if len(layer.inputs) > 2 and layer.inputs[2] is not None:
        bias = constant(layer.inputs[2])
        if bias is None or (bias.size > 1 and bias.shape[-1] != len(order)):
            return False
    axis = 0 if integer(layer, "transB", 0) else 1
    layer.replace_input_with(1, _stored(layer, 1, weight.take(order, axis)))
    if bias is not None and bias.size > 1:
        layer.replace_input_with(2, _stored(layer, 2, bias.take(order, -1)))
    return True


def _stored(layer: ir.Node, place: int, array: Array) -> ir.Value:
    """Return a constant, the one of another layer with these weights where there is one."""
    graph, hint = layer.graph, f"{layer.inputs[place].name}_by_kind"  # type: ignore[union-attr]
    known = graph.initializers.get(hint) if isinstance(graph, ir.Graph) else None
    if known is not None and np.array_equal(constant(known), array):  # type: ignore[arg-type]
        return known
    return new_constant(layer, array, hint)


def _parts(node: ir.Node, value: ir.Value, kinds: int, size: int) -> list[ir.Value]:
    """Return the pieces of a value along its last axis."""
    sizes = new_constant(node, np.full(kinds, size, np.int64), "sizes")
    split = new_node(node, "Split", [value, sizes], {"axis": 1}, num_outputs=kinds)
    for part in split.outputs:
        part.type, part.shape = value.type, ir.Shape([*(value.shape or ())[:1], size])
    return list(split.outputs)


def _give(part: ir.Value, wanted: ir.Value) -> None:
    """Put a piece in the place of what was taken."""
    node, shape = wanted.producer(), dims(wanted)
    if node is None:
        raise ValueError(f"nothing makes {wanted.name}")
    if shape != dims(part):
        target = [-1, *(wanted.shape or ())[1:]]
        sizes = new_constant(node, np.array(target, np.int64), "shape")
        part = new_node(node, "Reshape", [part, sizes], shape_of=wanted).outputs[0]
    replace(wanted, part)
    drop(node)


rewrite = LocalRewrite(
    order=46,
    portable=True,
    rule=unstack,
    absent="no parameters of a linear layer are taken apart one by one",
)
