"""Crop the rows and columns of a kernel that a mask has set to zero, with uneven padding."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from toolkit.passes._graph import (
    Array,
    LocalRewrite,
    constant,
    drop,
    ints,
    is_op,
    new_constant,
    new_node,
    replace,
)


def crop(graph: ir.Graph, node: ir.Node) -> bool:
    """Crop one convolution's kernel: the result is the same, by fewer multiplications."""
    del graph
    if not is_op(node, "Conv") or not _pads_are_given(node):
        return False
    weight = constant(node.inputs[1])
    if weight is None or weight.ndim < 3:
        return False
    axes = weight.ndim - 2
    pads = ints(node, "pads", [0] * 2 * axes)
    cuts = _cuts(weight, pads, ints(node, "dilations", [1] * axes))
    if not any(cuts):
        return False
    for axis in range(axes):
        size = weight.shape[axis + 2]
        weight = weight.take(range(cuts[axis], size - cuts[axis + axes]), axis + 2)
    _rebuild(node, weight, pads, cuts)
    return True


def _pads_are_given(node: ir.Node) -> bool:
    padding = node.attributes.get("auto_pad")
    return padding is None or padding.as_string() == "NOTSET"


def _cuts(weight: Array, pads: list[int], dilations: list[int]) -> list[int]:
    """Return how many taps to cut at the beginning of each axis, then at the end of each.

    A tap can go only where padding goes with it: what it read must have been outside.
    """
    axes = len(dilations)
    cuts = [0] * (2 * axes)
    for axis, dilation in enumerate(dilations):
        others = tuple(place for place in range(weight.ndim) if place != axis + 2)
        live = np.flatnonzero(np.any(weight != 0, axis=others))
        if not live.size:
            continue
        dead = (int(live[0]), weight.shape[axis + 2] - 1 - int(live[-1]))
        for side, place in ((dead[0], axis), (dead[1], axis + axes)):
            cuts[place] = min(side, pads[place] // dilation)
    return cuts


def _rebuild(node: ir.Node, weight: Array, pads: list[int], cuts: list[int]) -> None:
    axes = weight.ndim - 2
    dilations = ints(node, "dilations", [1] * axes) * 2
    attributes = {name: attribute.value for name, attribute in node.attributes.items()}
    attributes["kernel_shape"] = list(weight.shape[2:])
    attributes["pads"] = [
        pad - cut * dilation for pad, cut, dilation in zip(pads, cuts, dilations, strict=True)
    ]
    hint = getattr(node.inputs[1], "name", "") or "weight"
    inputs = [node.inputs[0], new_constant(node, weight, f"{hint}_cropped"), *node.inputs[2:]]
    new = new_node(node, "Conv", inputs, attributes, shape_of=node.outputs[0])
    replace(node.outputs[0], new.outputs[0])
    drop(node)


rewrite = LocalRewrite(
    order=70,
    portable=True,
    rule=crop,
    absent="no padded kernel has a border of zeros",
)
