"""What TensorRT's parser needs of an ONNX graph, and which module a refused node came from."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.core.errors import ExportError, UsageError

if TYPE_CHECKING:
    import onnx

Profiles = Mapping[str, tuple[int, int, int]]
Shapes = dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]
MODULE = "toolkit.module"
SOURCE = "toolkit.source"
SCOPES = "pkg.torch.onnx.name_scopes"


@dataclass(frozen=True, slots=True)
class Refused:
    """One node that TensorRT does not take.

    Arguments:
        operator: ONNX operator.
        node: Name of the node.
        module: Path of the `nn.Module` it was exported from; empty where the graph does not say.
        source: Python file and line it was exported from; empty where the graph does not say.
    """

    operator: str
    node: str
    module: str = ""
    source: str = ""

    def __str__(self) -> str:
        module = f" of module {self.module!r}" if self.module else ""
        source = f" ({self.source})" if self.source else ""
        return f"{self.operator} (node {self.node!r}{module}) is refused{source}"


def read_inlined(path: Path) -> onnx.ModelProto:
    """Read a graph and inline its functions; weights in other files stay there.

    Raises:
        ExportError: The file is no ONNX model, or takes or gives float64.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, OSError) as error:
        raise ExportError(
            f"the ONNX file cannot be read: {error}", where=str(path), next_step="export again"
        ) from error
    if model.functions:
        model = _inlined(model)
    _refuse_float64(model, path)
    return model


def _inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """Give every call its own copy of the function, which carries the call's module; inline all.

    The parser takes operators by name and ignores domains, so a function may not reach it.
    """
    import onnx.inliner

    functions = {(f.domain, f.name, f.overload): f for f in model.functions}
    calls = [*nodes_of(model.graph)]
    for number, node in enumerate(calls):
        function = functions.get((node.domain, node.op_type, node.overload))
        if function is None or not node.metadata_props:
            continue
        copy = model.functions.add()
        copy.CopyFrom(function)
        copy.name = node.op_type = f"{function.name}__{number}"
        for inner in copy.node:
            if not inner.metadata_props:
                inner.metadata_props.extend(node.metadata_props)
            calls.append(inner)
    return onnx.inliner.inline_local_functions(model)


def _refuse_float64(model: onnx.ModelProto, path: Path) -> None:
    import onnx

    for value in (*model.graph.input, *model.graph.output):
        if value.type.tensor_type.elem_type == onnx.TensorProto.DOUBLE:
            raise ExportError(
                f"{value.name!r} is float64, which TensorRT would silently take as float32",
                where=str(path),
                next_step="export the entry with float32 inputs and outputs",
            )


def nodes_of(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Yield every node of a graph and of the graphs inside its `Scan`, `Loop` and `If` nodes."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from nodes_of(inner)


def profile_shapes(model: onnx.ModelProto, profiles: Profiles) -> Shapes:
    """Return per input with dynamic dimensions its smallest, typical and largest shape.

    Arguments:
        model: The graph.
        profiles: Per dynamic dimension: minimum, typical, maximum.

    Raises:
        UsageError: A dynamic dimension has no range.
    """
    fixed = {tensor.name for tensor in model.graph.initializer}
    shapes: Shapes = {}
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        if value.name in fixed or all(dim.HasField("dim_value") for dim in dims):
            continue
        sizes = [
            (dim.dim_value,) * 3
            if dim.HasField("dim_value")
            else _range_of(dim.dim_param, value.name, profiles)
            for dim in dims
        ]
        low, typical, high = zip(*sizes, strict=True)
        shapes[value.name] = (low, typical, high)
    return shapes


def _range_of(dim: str, tensor: str, profiles: Profiles) -> tuple[int, int, int]:
    if dim not in profiles:
        raise UsageError(
            f"the dynamic dimension {dim or 'without a name'!r} of {tensor!r} has no range",
            where="[build.shapes]",
            next_step=f"give minimum, typical and maximum: {dim or 'name'} = [1, 8, 64]",
        )
    low, typical, high = profiles[dim]
    return low, typical, high


def refused_node(model: onnx.ModelProto, operator: str, name: str, index: int = -1) -> Refused:
    """Return a refused node with the module path that the exporter recorded on it.

    Arguments:
        model: The graph that the parser read.
        operator: Operator that the parser names; empty where it only counts nodes.
        name: Name of the node.
        index: Position in the main graph, for parsers that tell no name.
    """
    if not operator and 0 <= index < len(model.graph.node):
        node = model.graph.node[index]
        operator, name = node.op_type, node.name
    for node in nodes_of(model.graph):
        if node.op_type == operator and node.name == name:
            return Refused(operator, name, *origin(node))
    return Refused(operator, name)


def origin(node: onnx.NodeProto) -> tuple[str, str]:
    """Return module path and source line as the toolkit or else torch's exporter recorded them."""
    said = {entry.key: entry.value for entry in node.metadata_props}
    if MODULE in said or SOURCE in said:
        return said.get(MODULE, ""), said.get(SOURCE, "")
    try:
        *modules, _ = ast.literal_eval(said.get(SCOPES, "[]"))
    except (ValueError, SyntaxError, TypeError):
        return "", ""
    return str(modules[-1]) if modules else "", ""
