"""What a model would hit on export, found without exporting it."""

from __future__ import annotations

import contextlib
import io
import operator
import re
import traceback
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.core import registry
from toolkit.core.errors import ToolkitError
from toolkit.core.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from torch import nn

    from toolkit.core.entry import Entry

STOPS = "stops torch.export"
NO_LOWERING = "has no ONNX lowering"
FOLDS = "folds into a constant"
_CODE = re.compile(r"\x1b\[[0-9;]*m")
LONGEST = 300


@dataclass(frozen=True, slots=True)
class Obstacle:
    """One thing that an entry hits.

    Arguments:
        entry: Name of the entry.
        kind: `STOPS`, `NO_LOWERING`, or `FOLDS`: no lowering either, but it is gone before ONNX.
        what: The operator, or the first lines of torch's own message.
        module: Path of the `nn.Module`.
        source: Python file, line and function.
    """

    entry: str
    kind: str
    what: str
    module: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is to be expected of one entry.

    Arguments:
        entry: Name of the entry.
        nodes: Nodes of the captured graph; 0 where there is none.
        folded: Nodes that depend on parameters only, and go.
        constants: Constants that take their place.
        obstacles: What it hits.
    """

    entry: str
    nodes: int
    folded: int
    constants: int
    obstacles: tuple[Obstacle, ...]

    @property
    def exports(self) -> bool:
        """Whether nothing stands in the way of the first strategy."""
        return all(item.kind == FOLDS for item in self.obstacles)

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return {**asdict(self), "exports": self.exports}


def forecast(recipe: Recipe) -> list[Forecast]:
    """Capture every entry of a recipe's model and say what would stop its export.

    Raises:
        UsageError: The model cannot be made, or nothing says what its entries are.
    """
    from toolkit.capture.capture import quiet
    from toolkit.capture.preserve import preserved, without_validation
    from toolkit.stages._entries import entries_of
    from toolkit.stages._model import build_model

    model = build_model(recipe)
    entries = entries_of(model, recipe)
    with preserved(model), without_validation(), quiet():
        return [_forecast(model, entry, recipe) for entry in entries]


def _forecast(model: nn.Module, entry: Entry, recipe: Recipe) -> Forecast:
    import torch

    from toolkit.capture.capture import example, probe_outputs
    from toolkit.capture.dynamo import dynamic_shapes, mutates
    from toolkit.capture.fold import fold_parameters
    from toolkit.capture.module import entry_module

    inputs = tuple(example(item) for item in entry.inputs)
    shapes = None if recipe.export.static else (dynamic_shapes(entry),)
    try:
        probe_outputs(model, entry, list(inputs))
        torch._dynamo.reset()  # noqa: SLF001  (its caches hide what a fresh export hits)
        # torch prints the graph to standard error before it raises a guard error.
        with torch.no_grad(), contextlib.redirect_stderr(io.StringIO()):
            program = torch.export.export(
                entry_module(model, entry), inputs, dynamic_shapes=shapes, strict=False
            )
            if mutates(program):
                program = program.run_decompositions({})
            nodes = len(program.graph_module.graph.nodes)
            before = {item.what: item for item in _without_lowering(program, entry.name)}
            folding = fold_parameters(program)
            after = list(_without_lowering(program, entry.name)) if before else []
    except Exception as error:  # noqa: BLE001  (whatever torch raises is what the model hits)
        return Forecast(entry.name, 0, 0, 0, (_stopped(entry.name, error),))
    # Higher-order operators (no dot in their names) only wrap what is folded.
    gone = {name for name in before if "." in name} - {item.what for item in after}
    folded = [
        Obstacle(entry.name, FOLDS, name, before[name].module, before[name].source)
        for name in sorted(gone)
    ]
    return Forecast(entry.name, nodes, folding.nodes, folding.constants, (*after, *folded))


def _without_lowering(program: torch.export.ExportedProgram, entry: str) -> Iterator[Obstacle]:
    """Yield each operator that neither torch's exporter nor a file of `lowerings/` translates."""
    # torch offers no public way to ask which operators it translates.
    from torch.onnx._internal.exporter import _dispatching, _fx_passes

    from toolkit.capture.finish import source_line

    known = _translated()
    own = {target for _, lowering in registry.lowerings.items() for target in lowering()}
    decomposed = _fx_passes.decompose_with_registry(program, known)
    graph = _fx_passes.remove_assertion_nodes(decomposed.graph_module).graph
    seen = set()
    for node in graph.nodes:
        if node.op != "call_function" or node.target is operator.getitem or node.target in own:
            continue
        function, _ = _dispatching.dispatch(node, known)
        name = str(node.meta.get("original_aten") or node.target).removesuffix(".default")
        if function is None and name not in seen:
            seen.add(name)
            stack = list((node.meta.get("nn_module_stack") or {}).values())
            yield Obstacle(
                entry,
                NO_LOWERING,
                name,
                stack[-1][0].removeprefix("model.") if stack else "",
                source_line(node.meta.get("stack_trace") or ""),
            )


@cache
def _translated() -> Any:
    """Return torch's own registry of translated operators."""
    from torch.onnx._internal.exporter import _registration

    return _registration.ONNXRegistry.from_torchlib()


def _stopped(entry: str, error: Exception) -> Obstacle:
    if isinstance(error, ToolkitError):
        return Obstacle(entry, STOPS, error.what, source=error.where)
    lines = [line.strip() for line in _CODE.sub("", str(error)).splitlines() if line.strip()]
    what = f"{type(error).__name__}: {' '.join(lines[:2])}"
    return Obstacle(entry, STOPS, what[:LONGEST], source=_own_line(error))


def _own_line(error: BaseException) -> str:
    """Return the innermost line that is neither torch's nor the toolkit's own machinery."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not _is_machinery(Path(frame.filename))
    ]
    if not frames:
        return ""
    last = frames[-1]
    return f"{'/'.join(Path(last.filename).parts[-2:])}:{last.lineno} in {last.name}"


def _is_machinery(path: Path) -> bool:
    inside = ("capture", "stages", "cli", "core")
    if path.is_relative_to(registry.PACKAGE_ROOT):
        return path.relative_to(registry.PACKAGE_ROOT).parts[0] in (*inside, "__main__.py")
    return "torch" in path.parts or "site-packages" in path.parts or path.suffix != ".py"
