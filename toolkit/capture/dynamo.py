"""The first strategy: torch.export, parameter folding, then torch's ONNX exporter."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import onnx_ir as ir
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from toolkit.capture.decompose import decompose, is_final
from toolkit.capture.finish import place
from toolkit.capture.fold import FREE_BYTES, Folding, fold_parameters
from toolkit.capture.functions import attach, inline
from toolkit.capture.guards import Specialised
from toolkit.capture.module import EntryModule
from toolkit.core.entry import Entry
from toolkit.core.errors import ExportError
from toolkit.lowerings import table
from toolkit.passes._exact import optimize

Translations = Mapping[Callable[..., Any], Callable[..., Any]]
CustomOps = Literal["inline", "function"]
_NO_FUNCTION = re.compile(r"No ONNX function found for <OpOverload\(op='([^']+)'")


@dataclass(frozen=True, slots=True)
class Form:
    """What an exported graph shall be like.

    Arguments:
        opset: ONNX operator-set version.
        static: Fix every dimension at the example's size.
        custom_ops: `inline`: standard operators only; `function`: the toolkit's own operators
            stay, as model-local functions of standard operators.
    """

    opset: int = 20
    static: bool = False
    custom_ops: CustomOps = "inline"


@dataclass(frozen=True, slots=True)
class Translated:
    """What a strategy made.

    Arguments:
        graph: The ONNX graph.
        folding: What parameter folding did.
        guards: The reads of values on which the graph was specialised.
        loops: Iterations of each loop that was found and kept as a loop.
    """

    graph: ir.Model
    folding: Folding
    guards: tuple[Specialised, ...] = ()
    loops: tuple[int, ...] = ()


def export_dynamo(
    module: EntryModule,
    entry: Entry,
    inputs: Sequence[Tensor],
    outputs: Sequence[str],
    form: Form,
) -> Translated:
    """Return an entry's graph.

    Arguments:
        module: The entry's module in evaluation mode.
        entry: The entry.
        inputs: Example tensors; a dynamic dimension has size 2 or more.
        outputs: Names of the outputs.
        form: What the graph shall be like.

    Raises:
        Exception: Whatever the exporters raise; the caller reports it as this strategy's reason.
    """
    return Translated(*translate(module, entry, inputs, outputs, form))


def translate(
    module: nn.Module,
    entry: Entry,
    inputs: Sequence[Tensor],
    outputs: Sequence[str],
    form: Form,
    *,
    translations: Translations | None = None,
) -> tuple[ir.Model, Folding]:
    """Capture a module with torch.export, fold its parameters, and translate it to ONNX.

    Arguments:
        module: What torch.export can trace.
        entry: The entry.
        inputs: Example tensors.
        outputs: Names of the outputs.
        form: What the graph shall be like.
        translations: Translations beside those of `lowerings/`.
    """
    program = exported(module, entry, inputs, static=form.static)
    with torch.no_grad():
        folding = fold_parameters(program)
        decompose(program)
        if is_final(program):
            # Decomposing nothing traces everything again, every loop's body several times.
            program.run_decompositions = lambda _: program
        try:
            translated = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=form.opset,
                input_names=[item.name for item in entry.inputs],
                output_names=list(outputs),
                custom_translation_table={**table(), **(translations or {})},
                optimize=False,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            raise unsupported(program, error) from error
    if translated is None:
        raise ExportError("torch's exporter returned no graph", where=entry.name)
    attach(translated.model)
    inline(translated.model, custom_ops=form.custom_ops == "inline")
    optimize(translated.model, output_size_limit=FREE_BYTES // 4, inline=False)
    return translated.model, folding


def exported(
    module: nn.Module, entry: Entry, inputs: Sequence[Tensor], *, static: bool
) -> ExportedProgram:
    """Return a module as a functional torch program."""
    torch._dynamo.reset()  # noqa: SLF001  (its caches make a later dynamic export silently static)
    shapes = None if static else (dynamic_shapes(entry),)
    with torch.no_grad():
        program = torch.export.export(module, tuple(inputs), dynamic_shapes=shapes, strict=False)
        return program.run_decompositions({}) if mutates(program) else program


def unsupported(program: ExportedProgram, error: Exception) -> ExportError:
    """Return an error that names the operator, its module path and its Python line."""
    found = _NO_FUNCTION.search(_chain(error))
    if found is None:
        return ExportError(_chain(error).strip().splitlines()[0], next_step="see the next strategy")
    name = found[1].replace("::", ".")
    stem = name.removeprefix("aten.").lstrip("_")
    nodes = program.graph_module.graph.nodes
    node = next((n for n in nodes if stem in str(n.target)), None)
    return ExportError(
        f"no lowering for the operator {name}",
        where=place(node.meta) if node is not None else "",
        next_step="replace the operator, or add toolkit/lowerings/<operator>.py",
    )


def _chain(error: BaseException | None) -> str:
    parts = []
    while error is not None:
        parts.append(str(error))
        error = error.__cause__
    return "\n".join(reversed(parts))


def dynamic_shapes(entry: Entry) -> tuple[dict[int, Any], ...]:
    """Return, per input, the dynamic axes; one name is one dimension."""
    dims = {name: _dim(entry, name) for item in entry.inputs for name in item.dims if name}
    return tuple(
        {axis: dims[name] for axis, name in enumerate(item.dims) if name} for item in entry.inputs
    )


def _dim(entry: Entry, name: str) -> Any:
    low, _, high, multiple = entry.range_of(name)
    if multiple == 1:
        return Dim(name, min=low, max=high)
    unit = Dim(f"{name}_by_{multiple}", min=max(1, low // multiple), max=high // multiple)
    return multiple * unit


def mutates(program: ExportedProgram) -> bool:
    """Return whether an operator writes into its arguments (folding needs a functional graph)."""
    return any(
        isinstance(node.target, torch._ops.OpOverload)  # noqa: SLF001  (no public name)
        and node.target._schema.is_mutable  # noqa: SLF001  (no public name)
        for node in program.graph_module.graph.nodes
    )
