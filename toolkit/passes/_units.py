"""Which features the units of a masked network depend on, read off the zeros of its weights."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from toolkit.passes._graph import Array, constant, dims, has_body, integer, is_op
from toolkit.passes.sink_transposes import BROADCAST, UNARY

PRODUCTS = ("Gemm", "MatMul")
CHOICES = ("Split", "Slice", "Gather")
SCALES = ("alpha", "beta")
NONE = -1


@dataclass(frozen=True, slots=True)
class Network:
    """The part of a loop's body whose units lie along the last of two axes.

    Arguments:
        x: What the loop carries, `(batch, features)`.
        nodes: The nodes that a result needs, in order.
        dependence: Per value `(units, features)`: whether a unit depends on a feature.
    """

    x: ir.Value
    nodes: list[ir.Node]
    dependence: dict[ir.Value, Array]

    def operands(self, node: ir.Node) -> Iterable[tuple[int, ir.Value]]:
        """Yield the operands of a node that depend on `x`, with their places."""
        for place, value in enumerate(node.inputs):
            if value is not None and value in self.dependence:
                yield place, value

    def width(self, value: ir.Value) -> int:
        """Return how many units a value holds."""
        return len(self.dependence[value])

    def size(self, value: ir.Value | None) -> int | None:
        """Return the last size of a value, inside the network or not; `None` if it is open."""
        if value is not None and value in self.dependence:
            return self.width(value)
        shape = dims(value)
        return shape[-1] if shape and isinstance(shape[-1], int) else None


def read_network(x: ir.Value, nodes: Iterable[ir.Node]) -> Network:
    """Follow features through nodes, as far as rules tell; nothing is known of what comes behind.

    Arguments:
        x: A value of shape `(batch, features)`.
        nodes: Nodes in order, those that depend on `x` among them.
    """
    shape = dims(x)
    features = shape[1] if shape is not None and len(shape) == 2 else 0
    known, unknown = Network(x, [], {}), set[ir.Value]()
    if not isinstance(features, int):
        return known
    known.dependence[x] = np.eye(features, dtype=bool)
    for node in nodes:
        reads = (value for value in node.inputs if value is not None)
        if has_body(node) or not unknown.isdisjoint(reads):
            unknown.update(node.outputs)
        elif any(known.operands(node)):
            found = {output: _depends(known, node, output) for output in node.outputs}
            told = {value: array for value, array in found.items() if array is not None}
            unknown.update(found.keys() - told)
            known.dependence.update(told)
            known.nodes.append(node)
    return known


def weights(node: ir.Node) -> Array | None:
    """Return the constant weights of a product, `(inputs, outputs)`; `None` where it has none."""
    if not is_op(node, *PRODUCTS):
        return None
    array = constant(node.inputs[1])
    if array is None or array.ndim != 2 or integer(node, "transA", 0):
        return None
    if any(item in node.attributes and node.attributes[item].as_float() != 1 for item in SCALES):
        return None
    return array.T if integer(node, "transB", 0) else array


def units(network: Network, node: ir.Node, place: int, output: ir.Value) -> Array | None:
    """Return which unit of an operand each unit of an output reads, `NONE` where it reads none.

    `None` where the operator mixes units, or no rule tells.
    """
    value = node.inputs[place]
    shape = dims(value)
    if value is None or shape is None or len(shape) != 2:
        return None
    if is_op(node, *CHOICES):
        return _chosen(node, output, network.width(value)) if place == 0 else None
    if is_op(node, "Concat"):
        return _placed(network, node, place)
    if is_op(node, "Gemm") and place == 2:
        return np.arange(network.width(value))
    if is_op(node, *UNARY, *BROADCAST, "Clip", "Identity"):
        wide = max(network.width(item) for _, item in network.operands(node))
        own = network.width(value)
        return np.arange(wide) if own == wide else np.zeros(wide, int) if own == 1 else None
    return None


def _depends(network: Network, node: ir.Node, output: ir.Value) -> Array | None:
    """Return the features that each unit of a node's output depends on."""
    parts: list[Array] = []
    for place, value in network.operands(node):
        given = network.dependence[value]
        if is_op(node, *PRODUCTS) and place == 0:
            matrix = weights(node)
            if matrix is None or len(matrix) != len(given):
                return None
            parts.append((matrix != 0).T.astype(np.float32) @ given.astype(np.float32) > 0)
        else:
            read = units(network, node, place, output)
            if read is None:
                return None
            parts.append(given[read] & (read != NONE)[:, None])
    if len({part.shape for part in parts}) > 1:
        return None
    joined: Array = np.logical_or.reduce(parts)
    shape = dims(output)
    return joined if shape is None or shape[1:] == (len(joined),) else None


def _chosen(node: ir.Node, output: ir.Value, width: int) -> Array | None:
    """Return the units that a Split, Slice or Gather takes; `None` where it takes another axis."""
    everything = np.arange(width)
    if is_op(node, "Slice"):
        bounds = [constant(value) for value in node.inputs[1:]]
        known = [int(item.flat[0]) for item in bounds if item is not None and item.size == 1]
        if len(known) < 3 or len(known) != len(bounds):
            return None
        start, end, axis, *rest = known
        step = rest[0] if rest else 1
        return everything[start:end:step] if axis in (1, -1) and step > 0 else None
    if integer(node, "axis", 0) not in (1, -1):
        return None
    if is_op(node, "Gather"):
        wanted = constant(node.inputs[1])
        return everything[wanted] if wanted is not None and wanted.ndim == 1 else None
    sizes = [shape[1] for item in node.outputs if (shape := dims(item)) is not None]
    if len(sizes) != len(node.outputs) or not all(isinstance(size, int) for size in sizes):
        return None
    bounds_after = np.cumsum(sizes)
    place = list(node.outputs).index(output)
    return everything[bounds_after[place] - sizes[place] : bounds_after[place]]


def _placed(network: Network, node: ir.Node, place: int) -> Array | None:
    """Return where the units of one operand of a Concat come to lie."""
    if integer(node, "axis", 0) not in (1, -1):
        return None
    known = [size for value in node.inputs if (size := network.size(value)) is not None]
    if len(known) != len(node.inputs):
        return None
    read = np.full(sum(known), NONE)
    start = sum(known[:place])
    read[start : start + known[place]] = np.arange(known[place])
    return read
