"""Model-local functions: bodies of standard operators for the nodes of the domain `toolkit`.

A runtime that has a kernel of the name may take such a node whole; any other runs the body, for
which it needs no library. A body is written for its node's element type, attributes and axes (any
axis may be dynamic), and told from its siblings by the function's overload.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import onnx_ir as ir
import torch
from onnx_ir.passes.common import InlinePass, RemoveUnusedOpsetsPass
from torch import Tensor, nn
from torch.export import Dim

from toolkit.core.errors import ExportError
from toolkit.lowerings.operators import ARGUMENTS
from toolkit.nn.operators import DOMAIN, OPERATORS, VERSION
from toolkit.passes._exact import optimize

Dims = tuple[int | str, ...]
_TYPES = {
    ir.DataType.FLOAT16: torch.float16,
    ir.DataType.FLOAT: torch.float32,
    ir.DataType.DOUBLE: torch.float64,
}
_SMALLEST = 3


@dataclass(frozen=True, slots=True)
class Specialised:
    """What a body is written for.

    Arguments:
        op_type: The operator's ONNX name.
        arguments: Its attributes as JSON.
        dtype: The element type.
        shapes: Its inputs' shapes; a word is a dynamic size.
        opset: Version of the standard operators.
    """

    op_type: str
    arguments: str
    dtype: ir.DataType
    shapes: tuple[Dims, ...]
    opset: int


def attach(model: ir.Model) -> int:
    """Give every node of the domain a function, in place; call it right after the export.

    Returns:
        How many nodes there are.

    Raises:
        ExportError: An operator of the domain is unknown, or a node's shapes are.
    """
    overloads: dict[Specialised, str] = {}
    nodes = [node for node in model.graph.all_nodes() if node.domain == DOMAIN]
    for node in nodes:
        case = _specialised(node, model.graph.opset_imports[""])
        if case not in overloads:
            overloads[case] = str(len(overloads) + 1)
            function = _function(case, overloads[case])
            model.functions[function.identifier()] = function
        node.overload = overloads[case]
        node.metadata_props.pop(ARGUMENTS, None)
    if nodes:
        model.graph.opset_imports[DOMAIN] = VERSION
    return len(nodes)


def inline(model: ir.Model, *, custom_ops: bool = True) -> None:
    """Replace every node that has a function by the function's nodes, in place.

    Arguments:
        model: The graph.
        custom_ops: Replace the nodes of the domain `toolkit` too.
    """
    InlinePass(criteria=lambda function: custom_ops or function.domain != DOMAIN)(model)
    RemoveUnusedOpsetsPass()(model)


def describe(model: ir.Model) -> list[dict[str, Any]]:
    """Return the signature of every operator of the domain in the graph, for the manifest."""
    used = {node.op_type for node in model.graph.all_nodes() if node.domain == DOMAIN}
    return [
        {
            "name": name,
            "domain": DOMAIN,
            "version": VERSION,
            "inputs": list(OPERATORS[name].inputs),
            "outputs": list(OPERATORS[name].outputs),
            "attributes": {
                key: type(default).__name__ for key, default in OPERATORS[name].attributes.items()
            },
        }
        for name in sorted(used & OPERATORS.keys())
    ]


def _specialised(node: ir.Node, opset: int) -> Specialised:
    if node.op_type not in OPERATORS:
        raise ExportError(
            f"{DOMAIN} has no operator {node.op_type}",
            where=f"node {node.name}",
            next_step="known: " + ", ".join(OPERATORS),
        )
    exact = node.metadata_props.get(ARGUMENTS)
    arguments = json.loads(exact) if exact else _attributes(node)
    # A tracer's own names of sizes differ from graph to graph.
    sizes: dict[str, str] = {}
    shapes = tuple(
        tuple(
            size if isinstance(size, int) else sizes.setdefault(size, f"size_{len(sizes)}")
            for size in _dims(node, value)
        )
        for value in node.inputs
    )
    dtype = node.inputs[0].dtype if node.inputs[0] is not None else None
    if dtype not in _TYPES:
        raise ExportError(
            f"{node.op_type} needs floating-point inputs of a known type, not {dtype}",
            where=f"node {node.name}",
            next_step="attach functions right after the export, while types are known",
        )
    return Specialised(node.op_type, json.dumps(arguments, sort_keys=True), dtype, shapes, opset)


def _attributes(node: ir.Node) -> Mapping[str, Any]:
    defaults = OPERATORS[node.op_type].attributes
    found = {name: attribute.value for name, attribute in node.attributes.items()}
    return {name: type(default)(found.get(name, default)) for name, default in defaults.items()}


def _dims(node: ir.Node, value: ir.Value | None) -> Dims:
    if value is None or value.shape is None or any(size is None for size in value.shape):
        raise ExportError(
            f"an input of {node.op_type} has no known shape",
            where=f"node {node.name}",
            next_step="attach functions right after the export, while shapes are known",
        )
    return tuple(size if isinstance(size, int) else str(size.value) for size in value.shape)


def _function(case: Specialised, overload: str) -> ir.Function:
    operator = OPERATORS[case.op_type]
    body = _body(case).graph.clone()
    for name, value in zip(operator.outputs, body.outputs, strict=True):
        value.name = name
    for value in list(body.initializers.values()):
        _into_node(body, value)
    attributes = [
        ir.Attr(name, _ATTRIBUTE_TYPES[type(default)], None)
        for name, default in operator.attributes.items()
    ]
    return ir.Function(DOMAIN, case.op_type, overload, graph=body, attributes=attributes)


_ATTRIBUTE_TYPES = {
    bool: ir.AttributeType.INT,
    int: ir.AttributeType.INT,
    float: ir.AttributeType.FLOAT,
    str: ir.AttributeType.STRING,
}


def _into_node(body: ir.Graph, value: ir.Value) -> None:
    """Turn an initializer, which a function cannot have, into a node."""
    constant = ir.node("Constant", [], attributes={"value": value.const_value})
    constant.outputs[0].name = value.name
    value.replace_all_uses_with(constant.outputs[0])
    body.initializers.pop(str(value.name))
    body.insert_before(body[0], constant)


class _Applied(nn.Module):
    """An operator with its attributes given."""

    def __init__(self, function: Callable[..., tuple[Tensor, ...]], arguments: Any) -> None:
        super().__init__()
        self.function = function
        self.arguments = arguments

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return its outputs."""
        return self.function(*tensors, **self.arguments)


@lru_cache(maxsize=64)
def _body(case: Specialised) -> ir.Model:
    """Return a graph of standard operators, by torch's own exporter."""
    operator = OPERATORS[case.op_type]
    words = dict.fromkeys(size for dims in case.shapes for size in dims if isinstance(size, str))
    # A size that equals another would be taken for the same one.
    taken = {size for dims in case.shapes for size in dims if isinstance(size, int)}
    free = (size for size in itertools.count(_SMALLEST) if size not in taken)
    sizes: dict[str, int] = dict(zip(words, free, strict=False))
    inputs = tuple(
        torch.zeros(
            [sizes[size] if isinstance(size, str) else size for size in dims],
            dtype=_TYPES[case.dtype],
        )
        for dims in case.shapes
    )
    shapes = tuple(
        {axis: Dim.DYNAMIC for axis, size in enumerate(dims) if isinstance(size, str)}
        for dims in case.shapes
    )
    applied = _Applied(operator.plain, json.loads(case.arguments)).eval()
    with torch.no_grad():
        program = torch.export.export(applied, inputs, dynamic_shapes=(shapes,), strict=False)
        translated = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=case.opset,
            input_names=list(operator.inputs),
            output_names=list(operator.outputs),
            optimize=False,
            verbose=False,
        )
    if translated is None:
        raise ExportError("torch's exporter returned no graph", where=case.op_type)
    optimize(translated.model)
    for node in translated.model.graph:
        node.metadata_props.clear()
    return translated.model
