"""Bring a captured graph to its final form: dimension names, provenance, signature."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from typing import Any

import onnx_ir as ir

from toolkit.core.entry import Entry
from toolkit.core.errors import ExportError
from toolkit.core.registry import passes
from toolkit.core.signature import Signature, TensorSpec

MODULE = "toolkit.module"
SOURCE = "toolkit.source"
_SCOPES = "pkg.torch.onnx.name_scopes"
_TRACE = "pkg.torch.onnx.stack_trace"
RANDOM = (
    "Bernoulli",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
)
# They keep every value to its rounding, serve every runtime, and cost milliseconds.
LAYOUT = (
    "powers",
    "gathers",
    "sink_transposes",
    "gathers",
    "unstack",
    "views",
    "uniform",
    "dots",
    "addends",
    "scales",
    "zeros",
    "block_sweeps",
)
# They are faster and lose a few digits, which is for a judge to accept.
SHORTER = ("sigmoid", "log1p")
_OWN = re.compile(r"toolkit/capture/|torch/(nn|fx|_)")
_MULTIPLE = re.compile(r"(?P<factor>\d+)\*(?P<unit>[A-Za-z_]\w*)")
_FRAME = re.compile(r'File "([^"]+)", line (\d+), in (\w+)')


def finish(model: ir.Model, entry: Entry, *, static: bool) -> None:
    """Name and check the dynamic dimensions, turn the layout, keep only portable provenance.

    The graph is changed in place.

    Arguments:
        model: The captured graph.
        entry: The entry it was captured from.
        static: Whether every dimension was asked to be fixed.

    Raises:
        ExportError: A requested dynamic dimension turned static, or the graph draws random numbers.
    """
    _check_deterministic(model)
    _name_dimensions(model, entry)
    if not static:
        check_dynamic(model, entry)
    for name in LAYOUT:
        passes.load(name)(model)
    for node in model.graph.all_nodes():
        _keep_provenance(node)
    for function in model.functions.values():
        for node in function.all_nodes():
            _keep_provenance(node)
    for value in _values(model):
        value.metadata_props.clear()
    model.graph.metadata_props.clear()
    model.graph.name = entry.name
    model.producer_name, model.producer_version = "toolkit", ""


def shortened(model: ir.Model) -> ir.Model | None:
    """Return a copy with runtimes' own operators for what is spelled out; `None` without any."""
    copy = model.clone()
    return copy if sum(passes.load(name)(copy).count for name in SHORTER) else None


def _check_deterministic(model: ir.Model) -> None:
    for node in model.graph.all_nodes():
        if node.op_type in RANDOM:
            raise ExportError(
                f"the graph draws random numbers ({node.op_type})",
                where=source_line(node.metadata_props.get(_TRACE, "")),
                next_step="pass the numbers as an input of kind noise",
            )


def check_dynamic(model: ir.Model, entry: Entry) -> None:
    """Check that every requested dynamic dimension is dynamic in the graph.

    Raises:
        ExportError: One turned static; the export would fail or be wrong at another size.
    """
    for item, value in zip(entry.inputs, model.graph.inputs, strict=True):
        for axis, (name, size) in enumerate(zip(item.dims, value.shape or (), strict=True)):
            if name and isinstance(size, int):
                raise ExportError(
                    f"the dimension {name!r} turned static at {size}",
                    where=f"entry {entry.name!r}, input {item.name!r}, axis {axis}",
                    next_step="remove what reads the size as a Python number (len(x), x.shape "
                    "in a literal), or export with --static",
                )


def _name_dimensions(model: ir.Model, entry: Entry) -> None:
    """Give symbolic sizes the names of the entry's dimensions."""
    names: dict[str, str] = {}
    for item, value in zip(entry.inputs, model.graph.inputs, strict=True):
        for name, size in zip(item.dims, value.shape or (), strict=True):
            if name and isinstance(size, ir.SymbolicDim) and size.value:
                names.setdefault(str(size.value), name)
                if multiple := _MULTIPLE.fullmatch(str(size.value)):
                    names.setdefault(multiple["unit"], f"{name}_by_{multiple['factor']}")
    for value in _values(model):
        if value.shape is None:
            continue
        if value.shape.is_dynamic():
            value.shape = ir.Shape(
                _renamed(str(size.value), names)
                if isinstance(size, ir.SymbolicDim) and size.value is not None
                else size
                for size in value.shape
            )


def _renamed(expression: str, names: dict[str, str]) -> str:
    if expression in names:
        return names[expression]
    return re.sub(r"[A-Za-z_]\w*", lambda word: names.get(word[0], word[0]), expression)


def _values(model: ir.Model) -> Iterator[ir.Value]:
    for graph in model.graphs():
        yield from graph.inputs
        yield from graph.initializers.values()
        for node in graph:
            yield from node.outputs


def _keep_provenance(node: ir.Node) -> None:
    """Keep the module path and the Python line, without any path of this machine."""
    props = node.metadata_props
    scopes, trace = props.get(_SCOPES), props.get(_TRACE, "")
    kept = {}
    if scopes:
        path = [s for s in ast.literal_eval(scopes) if s and not s.startswith("_empty")]
        kept[MODULE] = path[-2].removeprefix("model.") if len(path) > 1 else ""
    kept[SOURCE] = source_line(trace)
    props.clear()
    props.update({key: value for key, value in kept.items() if value})


def source_line(trace: str) -> str:
    """Return the innermost Python line of a trace, with the last two parts of its path."""
    frames = [frame for frame in _FRAME.findall(trace) if not _OWN.search(frame[0])]
    if not frames:
        return ""
    file, line, function = frames[-1]
    return f"{'/'.join(file.split('/')[-2:])}:{line} in {function}"


def place(meta: Mapping[str, Any]) -> str:
    """Return the module path and the Python line of a torch graph's node, from its `meta`."""
    path = module_of(meta)
    parts = (path and f"module {path}", source_line(meta.get("stack_trace") or ""))
    return ", ".join(part for part in parts if part)


def module_of(meta: Mapping[str, Any]) -> str:
    """Return the path of the `nn.Module` that made a torch graph's node; empty for the model."""
    stack = [path for path, _ in (meta.get("nn_module_stack") or {}).values()]
    path: str = stack[-1] if stack else ""
    return "" if path.startswith("_empty") else path.removeprefix("model").removeprefix(".")


def signature_of(model: ir.Model, entry: Entry, family: str) -> Signature:
    """Return the signature of a finished graph."""
    dims = {name for item in entry.inputs for name in item.dims if name}
    return Signature(
        entry=entry.name,
        family=entry.family or family,
        inputs=tuple(
            TensorSpec(
                item.name,
                _dtype(value),
                _dims(value),
                kind=item.kind,
                law=item.law if item.kind == "noise" else "",
                low=item.low,
                high=item.high,
                fixed_batch=-1 if item.shared else item.batch_axis,
            )
            for item, value in zip(entry.inputs, model.graph.inputs, strict=True)
        ),
        outputs=tuple(
            TensorSpec(
                str(value.name),
                _dtype(value),
                _dims(value),
                kind="output",
                unit=entry.units.get(str(value.name), "absolute"),
            )
            for value in model.graph.outputs
        ),
        ranges={name: entry.range_of(name) for name in sorted(dims)},
    )


def _dtype(value: ir.Value) -> str:
    return "float32" if value.dtype is None else str(value.dtype.numpy())


def _dims(value: ir.Value) -> tuple[int | str, ...]:
    return tuple(
        size if isinstance(size, int) else str(size.value or f"{value.name}_{axis}")
        for axis, size in enumerate(value.shape or ())
    )
