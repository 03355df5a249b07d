"""What an ONNX graph holds and costs: signature, operators, parameters, multiply-adds."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from toolkit.core.signature import Signature, TensorSpec

if TYPE_CHECKING:
    import onnx

    Shape = tuple[int, ...]

COUNTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# These multiply matrices too, and are named as not counted.
UNCOUNTED = frozenset(
    {
        "Attention",
        "ConvInteger",
        "DeformConv",
        "DFT",
        "Einsum",
        "FusedConv",
        "FusedGemm",
        "FusedMatMul",
        "GRU",
        "LSTM",
        "Loop",
        "MatMulInteger",
        "MatMulNBits",
        "QLinearConv",
        "QLinearMatMul",
        "RNN",
    }
)
FLOATS = frozenset({1, 10, 11, 16, 17, 18, 19, 20, 23})


@dataclass(slots=True)
class Flops:
    """Floating-point operations of matrix products and convolutions: two per multiply-add.

    Arguments:
        counted: Operations per operator.
        uncounted: How many nodes of operators that are not counted, or whose shapes are unknown.
    """

    counted: Counter[str] = field(default_factory=Counter)
    uncounted: Counter[str] = field(default_factory=Counter)


def stated_signature(model: onnx.ModelProto) -> Signature:
    """Return the signature that a graph itself states."""
    stored = {tensor.name for tensor in model.graph.initializer}
    return Signature(
        entry=model.graph.name or "main",
        family="",
        inputs=tuple(_spec(value) for value in model.graph.input if value.name not in stored),
        outputs=tuple(_spec(value) for value in model.graph.output),
    )


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    import onnx

    tensor = value.type.tensor_type
    dims = tuple(
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param or f"{value.name}_{axis}"
        for axis, dim in enumerate(tensor.shape.dim)
    )
    known = tensor.elem_type and tensor.elem_type != onnx.TensorProto.STRING
    dtype = str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)) if known else "string"
    return TensorSpec(value.name, dtype, dims)


def operators_of(nodes: object) -> Counter[str]:
    """Return how often each operator occurs, those of nested graphs included."""
    return Counter(
        f"{node.domain}::{node.op_type}" if node.domain else node.op_type
        for node in all_nodes(nodes)
    )


def all_nodes(nodes: object) -> Iterator[onnx.NodeProto]:
    """Yield nodes and those of the graphs in their attributes."""
    for node in nodes:  # type: ignore[attr-defined]
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from all_nodes(graph.node)


def parameters_of(model: onnx.ModelProto) -> tuple[int, int]:
    """Return the number of floating-point constants stored as initializers, and their bytes."""
    import onnx

    count = size = 0
    for tensor in _initializers(model.graph):
        if tensor.data_type in FLOATS:
            elements = math.prod(tensor.dims)
            count += elements
            size += elements * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return count, size


def _initializers(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _initializers(inner)


def flops_of(model: onnx.ModelProto, sizes: Mapping[str, int]) -> Flops:
    """Count matrix products and convolutions at given sizes of the dynamic dimensions.

    A `Scan` body counts once per step; a `Loop`, whose number of steps the graph may decide while
    it runs, is not counted.

    Arguments:
        model: The graph; it is left as it is.
        sizes: Size of every dynamic dimension by name.
    """
    import onnx
    import onnx.inliner

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for value in copy.graph.input:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in sizes:
                dim.dim_value = sizes[dim.dim_param]
    for value in copy.graph.output:
        value.type.tensor_type.ClearField("shape")
    copy.graph.ClearField("value_info")
    flops = Flops()
    _count(_inferred(onnx.inliner.inline_local_functions(copy)).graph, {}, 1, flops)
    return flops


def _inferred(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with the shapes that can be known, also inside of `Scan` bodies.

    ONNX Runtime's own inference follows computed shapes into bodies. Its public call writes a file
    into the working folder where it does not know everything, so its parts are called here.
    """
    import onnx
    from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference

    class Inference(SymbolicShapeInference):  # type: ignore[misc]
        def run(self) -> onnx.ModelProto:
            self._preprocess(model)
            while self.run_:
                self._infer_impl()
            self._update_output_from_vi()
            inferred: onnx.ModelProto = self.out_mp_
            return inferred

    try:
        return Inference(
            int_max=2**31 - 1, auto_merge=True, guess_output_rank=False, verbose=0
        ).run()
    except Exception:  # noqa: BLE001  (it raises anything on operators it does not know)
        return onnx.shape_inference.infer_shapes(model, data_prop=True)


def _count(graph: onnx.GraphProto, outer: Mapping[str, Shape], times: int, flops: Flops) -> None:
    shapes = {**outer, **_shapes(graph)}
    for node in graph.node:
        if node.op_type == "Scan":
            _count_scan(node, shapes, times, flops)
        elif node.op_type in COUNTED:
            found = _operations(node, shapes)
            if found is None:
                flops.uncounted[node.op_type] += 1
            else:
                flops.counted[node.op_type] += times * found
        elif node.op_type in UNCOUNTED:
            flops.uncounted[node.op_type] += 1
        elif node.op_type == "If":
            flops.uncounted["If"] += 1


def _shapes(graph: onnx.GraphProto) -> dict[str, Shape]:
    known = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(d.HasField("dim_value") for d in dims):
            known[value.name] = tuple(dim.dim_value for dim in dims)
    return known


def _count_scan(
    node: onnx.NodeProto, shapes: Mapping[str, Shape], times: int, flops: Flops
) -> None:
    """Count a scan's body once per step."""
    attributes = {attribute.name: attribute for attribute in node.attribute}
    first = len(node.input) - attributes["num_scan_inputs"].i
    axes = attributes.get("scan_input_axes")
    scanned = shapes.get(node.input[first])
    if scanned is None:
        flops.uncounted["Scan"] += 1
        return
    steps = scanned[axes.ints[0] if axes else 0]
    _count(attributes["body"].g, shapes, times * steps, flops)


def _operations(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> int | None:
    """Return the operations of one node; `None` where a shape is unknown."""
    first, second = shapes.get(node.input[0]), shapes.get(node.input[1])
    result = shapes.get(node.output[0])
    if first is None or second is None or result is None:
        return None
    if node.op_type == "Conv":
        # Weight: (out, in / group, *kernel).
        return 2 * math.prod(result) * math.prod(second[1:])
    if node.op_type == "ConvTranspose":
        # Weight: (in, out / group, *kernel).
        return 2 * math.prod(first) * math.prod(second[1:])
    if node.op_type == "Gemm":
        transposed = any(a.name == "transA" and a.i for a in node.attribute)
        return 2 * math.prod(result) * first[0 if transposed else 1]
    return 2 * math.prod(result) * first[-1]
