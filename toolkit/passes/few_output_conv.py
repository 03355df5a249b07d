"""Turn a Conv with few outputs into a ConvTranspose, which ONNX Runtime runs as one product."""

from __future__ import annotations

import onnx_ir as ir

from toolkit.passes._graph import (
    LocalRewrite,
    constant,
    drop,
    integer,
    ints,
    is_op,
    new_constant,
    new_node,
    replace,
)

FEW = {3: ((6, 16), (12, 64)), 5: ((12, 32), (16, 64)), 7: ((12, 32), (16, 64))}
"""Per kernel side, the pairs (most outputs, fewest inputs) for which the product was faster."""


def transpose_conv(graph: ir.Graph, node: ir.Node) -> bool:
    """Replace one convolution by the transposed one with flipped weights, an equal map."""
    del graph
    if not is_op(node, "Conv") or not _is_simple(node):
        return False
    weight = constant(node.inputs[1])
    if weight is None or weight.ndim != 4 or not _has_few_outputs(weight.shape):
        return False
    kernel, pads = weight.shape[2:], ints(node, "pads", [0] * 4)
    turned = [side - 1 - pad for side, pad in zip((*kernel, *kernel), pads, strict=True)]
    if min(turned) < 0:
        return False
    flipped = weight[:, :, ::-1, ::-1].transpose(1, 0, 2, 3)
    hint = getattr(node.inputs[1], "name", "") or "weight"
    inputs = [node.inputs[0], new_constant(node, flipped, f"{hint}_turned"), *node.inputs[2:]]
    attributes = {"kernel_shape": list(kernel), "pads": turned, "strides": [1, 1]}
    new = new_node(node, "ConvTranspose", inputs, attributes, shape_of=node.outputs[0])
    replace(node.outputs[0], new.outputs[0])
    drop(node)
    return True


def _is_simple(node: ir.Node) -> bool:
    padding = node.attributes.get("auto_pad")
    return (
        integer(node, "group", 1) == 1
        and set(ints(node, "strides", [1])) == {1}
        and set(ints(node, "dilations", [1])) == {1}
        and (padding is None or padding.as_string() == "NOTSET")
    )


def _has_few_outputs(shape: tuple[int, ...]) -> bool:
    outputs, inputs, *kernel = shape
    return any(outputs <= most and inputs >= fewest for most, fewest in FEW.get(min(kernel), ()))


rewrite = LocalRewrite(
    order=95,
    portable=False,
    rule=transpose_conv,
    absent="no convolution has few outputs and many inputs",
)
