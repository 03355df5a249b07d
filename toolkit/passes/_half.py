"""Float32 graphs to half precision, with float32 islands where sums or tails need them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from toolkit.core.errors import ExportError
from toolkit.passes._graph import constant, has_body, is_op, name_apart, new_constant
from toolkit.passes._products import PRODUCTS, SMALLEST_PRODUCT, only_in_loops, product_size

FULL, HALF = ir.DataType.FLOAT, ir.DataType.FLOAT16
LARGEST = float(np.finfo(np.float16).max)
FOLLOWERS = ("Relu", "LeakyRelu", "Gelu", "Elu", "MaxPool", "AveragePool", "Dropout", "Identity")
WIDE_RANGE = (
    *("Constant", "ConstantOfShape", "CumSum", "Exp", "Log", "LogSoftmax"),
    *("Pow", "Range", "Reciprocal", "Softmax", "Softplus"),
)
ONLY_FIRST = ("Resize",)
"""Operators of which only the first input may be half."""


@dataclass(frozen=True, slots=True)
class Precision:
    """Which nodes compute in half precision.

    Arguments:
        name: What the ledger calls it.
        everywhere: Half wherever the range allows; otherwise only large products and what follows.
    """

    name: str
    everywhere: bool


PRECISIONS = (Precision("half", everywhere=True), Precision("mixed", everywhere=False))
"""From the smallest graph to the most exact one."""


def to_half(model: ir.Model, precision: Precision) -> ir.Model:
    """Return a copy in half precision; its inputs and outputs stay float32.

    Every type is explicit in the graph, as strongly typed TensorRT networks need it. Model-local
    functions are inlined. Control flow stays float32.

    Arguments:
        model: A float32 model; it is left as it was.
        precision: Which nodes compute in half.

    Raises:
        ExportError: No node can compute in half precision, or no product lies outside of a loop.
    """
    from onnx_ir.passes import common

    copy = model.clone()
    if copy.functions:
        common.InlinePass()(copy)
    if only_in_loops(copy):
        raise ExportError(
            "nothing to halve: all convolutions and matrix products lie inside a loop",
            next_step="leave fp16 out of optimize.variants",
        )
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(copy)
    caster = _Caster(copy.graph)
    summed: set[ir.Value] = set()
    for node in tuple(copy.graph):
        half = _is_half(node, precision, caster, summed)
        if not half and not is_op(node, *PRODUCTS) and _is_summed(node, summed):
            summed.update(node.outputs)
        caster.convert(node, HALF if half else FULL)
    if HALF not in caster.types.values():
        raise ExportError(
            "no node computes in half precision: all products are small",
            next_step="leave fp16 out of optimize.variants",
        )
    caster.restore_outputs()
    common.RemoveUnusedNodesPass()(copy)
    name_apart(copy)
    return copy


def _is_summed(node: ir.Node, summed: set[ir.Value]) -> bool:
    """Return whether a node reduces, or goes on with what a reduction gave."""
    return node.op_type.startswith("Reduce") or any(value in summed for value in node.inputs)


def _is_half(node: ir.Node, precision: Precision, caster: _Caster, summed: set[ir.Value]) -> bool:
    if node.domain not in ("", "ai.onnx") or has_body(node) or _is_out_of_range(node):
        return False
    if is_op(node, *PRODUCTS):
        return precision.everywhere or product_size(node) >= SMALLEST_PRODUCT
    if is_op(node, *WIDE_RANGE) or _is_summed(node, summed) or _turns_batch_into_rows(node):
        return False
    if precision.everywhere:
        return True
    return is_op(node, *FOLLOWERS) and all(
        caster.types.get(value) == HALF for value in node.inputs if value is not None
    )


def _turns_batch_into_rows(node: ir.Node) -> bool:
    """Return whether a Transpose gives a product its first axis as one of a matrix's.

    ONNX Runtime merges the two, and in half, where it has no such product, the process dies of it.
    """
    if not is_op(node, "Transpose") or "perm" not in node.attributes:
        return False
    perm = node.attributes["perm"].as_ints()
    readers = (reader for reader, _ in node.outputs[0].uses())
    return 0 in perm[-2:] and len(perm) > 2 and any(is_op(reader, "MatMul") for reader in readers)


def _is_out_of_range(node: ir.Node) -> bool:
    """Return whether a finite constant of the node overflows in half precision."""
    for value in node.inputs:
        array = constant(value)
        if array is None or array.dtype != np.float32:
            continue
        finite = np.abs(array[np.isfinite(array)])
        if finite.size and float(finite.max()) > LARGEST:
            return True
    return False


class _Caster:
    """Changes nodes' types, and casts where two types meet."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self.types: dict[ir.Value, ir.DataType] = {}
        self._casts: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}

    def convert(self, node: ir.Node, wanted: ir.DataType) -> None:
        """Let a node compute in the wanted type."""
        limit = 1 if is_op(node, *ONLY_FIRST) else len(node.inputs)
        for place, value in enumerate(node.inputs):
            if value is not None:
                target = wanted if place < limit else FULL
                node.replace_input_with(place, self._as(value, target, node))
        self._convert_captured(node)
        if is_op(node, "Cast") and node.outputs[0].dtype == FULL:
            node.attributes["to"] = ir.AttrInt64("to", int(wanted))
        for value in node.outputs:
            if value.dtype == FULL:
                self._set_type(value, wanted)

    def restore_outputs(self) -> None:
        """Give the graph's outputs in float32 under their names."""
        for place, value in enumerate(self.graph.outputs):
            if self.types.get(value) == HALF:
                maker = value.producer()
                name, value.name = value.name, f"{value.name}_half"
                cast = self._cast(value, FULL, maker)
                cast.name = name
                self.graph.outputs[place] = cast

    def _set_type(self, value: ir.Value, dtype: ir.DataType) -> None:
        """Set a type; the old type object may be shared with the graph this one is a copy of."""
        value.type = ir.TensorType(dtype)
        self.types[value] = dtype

    def _convert_captured(self, node: ir.Node) -> None:
        """Give subgraphs what they read from outside in float32."""
        for attribute in node.attributes.values():
            if attribute.type != ir.AttributeType.GRAPH:
                continue
            for inner in attribute.as_graph().all_nodes():
                for place, value in enumerate(inner.inputs):
                    if value is not None and self.types.get(value) == HALF:
                        inner.replace_input_with(place, self._as(value, FULL, node))

    def _as(self, value: ir.Value, wanted: ir.DataType, user: ir.Node) -> ir.Value:
        current = self.types.get(value, value.dtype)
        if current not in (FULL, HALF) or current == wanted:
            return value
        array = constant(value)
        if array is not None:
            return self._rounded(value, array, user)
        return self._cast(value, wanted, value.producer(), user)

    def _rounded(self, value: ir.Value, array: np.ndarray, user: ir.Node) -> ir.Value:
        key = (value, HALF)
        if key not in self._casts:
            with np.errstate(over="ignore"):
                half = array.astype(np.float16)
            self._casts[key] = new_constant(user, half, f"{value.name}_half")
        return self._casts[key]

    def _cast(
        self,
        value: ir.Value,
        wanted: ir.DataType,
        maker: ir.Node | None,
        user: ir.Node | None = None,
    ) -> ir.Value:
        key = (value, wanted)
        if key not in self._casts:
            source = maker or user
            node = ir.node(
                "Cast",
                [value],
                attributes={"to": int(wanted)},
                metadata_props=dict(source.metadata_props) if source is not None else {},
            )
            node.outputs[0].shape = value.shape
            self._set_type(node.outputs[0], wanted)
            if maker is not None:
                self.graph.insert_after(maker, node)
            else:
                self.graph.insert_before(self.graph[0], node)
            self._casts[key] = node.outputs[0]
        return self._casts[key]
