"""Convolutions and matrix products with constant weights, seen as `y = W·x + b`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from toolkit.passes._graph import (
    Array,
    constant,
    integer,
    ints,
    is_op,
    new_constant,
    new_node,
)


@dataclass(frozen=True, slots=True)
class Linear:
    """A linear node with constant weight and bias.

    Arguments:
        node: The Conv, ConvTranspose, Gemm or MatMul.
        weight: Its weight in float64, output channels first, input channels second.
        bias: Its bias in float64, `(outputs,)`; zeros where it has none.
        axis: Axis of the channels in its data, counted from the front for convolutions and -1
            for matrix products.
    """

    node: ir.Node
    weight: Array
    bias: Array
    axis: int

    @property
    def data(self) -> ir.Value:
        """Return the value it is applied to."""
        value = self.node.inputs[0]
        if value is None:
            raise ValueError(f"{self.node.op_type} without an input")
        return value

    @property
    def output(self) -> ir.Value:
        """Return its result."""
        return self.node.outputs[0]

    @property
    def takes_shift(self) -> bool:
        """Whether a constant added to its data passes to its bias: nothing is padded with zeros."""
        if self.axis == -1:
            return True
        return is_op(self.node, "Conv") and not any(ints(self.node, "pads", ()))

    @property
    def takes_input_scale(self) -> bool:
        """Whether every output reads every input channel."""
        return integer(self.node, "group", 1) == 1

    @property
    def gives_shift(self) -> bool:
        """Whether it has a bias that takes a constant added to its result."""
        return not is_op(self.node, "MatMul")

    def rebuilt(self, weight: Array, bias: Array) -> ir.Node:
        """Insert the same node with another weight and bias, both rounded here, once."""
        node = self.node
        stored = constant(node.inputs[1])
        if stored is None:
            raise ValueError(f"{node.op_type} without a constant weight")
        layout = np.moveaxis(weight, (0, 1), _channels(node))
        hint = getattr(node.inputs[1], "name", "") or "weight"
        inputs = [self.data, new_constant(node, layout.astype(stored.dtype), f"{hint}_folded")]
        if np.any(bias) or (len(node.inputs) > 2 and node.inputs[2] is not None):
            inputs.append(new_constant(node, bias.astype(stored.dtype), f"{hint}_folded_bias"))
        attributes = {name: attribute.value for name, attribute in node.attributes.items()}
        return new_node(node, node.op_type, inputs, attributes, shape_of=self.output)


def as_linear(node: ir.Node) -> Linear | None:
    """Return the linear view of a node; `None` where it has none or shares its weight."""
    if not is_op(node, "Conv", "ConvTranspose", "Gemm", "MatMul") or not is_plain(node):
        return None
    stored = node.inputs[1]
    weight = constant(stored)
    if weight is None or stored is None or len(stored.uses()) != 1:
        return None
    if not np.issubdtype(weight.dtype, np.floating) or weight.ndim < 2:
        return None
    weight = np.moveaxis(weight.astype(np.float64), _channels(node), (0, 1))
    bias = _bias(node, weight.shape[0])
    axis = 1 if is_op(node, "Conv", "ConvTranspose") else -1
    return None if bias is None else Linear(node, weight, bias, axis)


def is_plain(node: ir.Node) -> bool:
    """Return whether no attribute makes the node more than a linear map of its data."""
    if is_op(node, "MatMul"):
        stored = constant(node.inputs[1])
        return stored is not None and stored.ndim == 2
    if is_op(node, "Gemm"):
        attributes = node.attributes
        scales = [attributes[name].as_float() for name in ("alpha", "beta") if name in attributes]
        return all(scale == 1.0 for scale in scales) and not integer(node, "transA", 0)
    if is_op(node, "ConvTranspose") and integer(node, "group", 1) != 1:
        return False
    padding = node.attributes.get("auto_pad")
    return padding is None or padding.as_string() == "NOTSET"


def _channels(node: ir.Node) -> tuple[int, int]:
    """Return the axes of the stored weight that hold output and input channels."""
    if is_op(node, "Conv") or (is_op(node, "Gemm") and integer(node, "transB", 0)):
        return 0, 1
    return 1, 0


def _bias(node: ir.Node, outputs: int) -> Array | None:
    if len(node.inputs) < 3 or node.inputs[2] is None:
        return np.zeros(outputs)
    bias = constant(node.inputs[2])
    if bias is None or bias.size not in (1, outputs) or bias.shape[:-1].count(1) != bias.ndim - 1:
        return None
    return np.broadcast_to(bias.astype(np.float64).reshape(-1), (outputs,))
