"""What a model would hit on export, found without exporting it."""

from __future__ import annotations

import contextlib
import io
import operator
import re
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.core import registry
from toolkit.core.errors import ToolkitError
from toolkit.core.recipe import Recipe

if TYPE_CHECKING:
    import torch
    from torch import nn

    from toolkit.capture.guards import Specialised
    from toolkit.core.entry import Entry

FAILS = "fails: no ONNX lowering"
FOLDS = "folds into a constant"
LOWERED = "the toolkit's lowering"
TRANSLATED = "torch's exporter"
_CODE = re.compile(r"\x1b\[[0-9;]*m")
LONGEST = 300


@dataclass(frozen=True, slots=True)
class Operator:
    """One torch operator that an entry runs.

    Arguments:
        name: Its name.
        count: How often it stands in the graph.
        how: What becomes of it: `TRANSLATED`, `LOWERED`, `FOLDS` or `FAILS`.
        module: Path of the first `nn.Module` that runs it.
        source: Python file, line and function there.
    """

    name: str
    count: int
    how: str
    module: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is to be expected of one entry.

    Arguments:
        entry: Name of the entry.
        strategy: `dynamo` or `record`: the one that is tried first.
        because: Why recording comes before tracing; empty where it does not.
        nodes: Nodes of the captured graph; 0 where there is none.
        folded: Nodes that depend on parameters only, and go.
        constants: Constants that take their place.
        operators: What it runs, what fails first.
        guards: What Python reads out of tensors, and how each read is proven.
        noise: Names of the inputs that random operators become.
        stopped: What stops the capture; empty where nothing does.
        where: Where that is.
    """

    entry: str
    strategy: str = ""
    because: str = ""
    nodes: int = 0
    folded: int = 0
    constants: int = 0
    operators: tuple[Operator, ...] = ()
    guards: tuple[Specialised, ...] = ()
    noise: tuple[str, ...] = ()
    stopped: str = ""
    where: str = ""

    @property
    def exports(self) -> bool:
        """Whether nothing stands in the way of the first strategy."""
        return not self.stopped and all(item.how != FAILS for item in self.operators)

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return {**asdict(self), "exports": self.exports}


def forecast(recipe: Recipe) -> list[Forecast]:
    """Capture every entry of a recipe's model and say what would stop its export.

    Raises:
        UsageError: The model cannot be made, or nothing says what its entries are.
    """
    from toolkit.capture.capture import quiet
    from toolkit.capture.preserve import preserved
    from toolkit.core.validation import without_validation
    from toolkit.stages._entries import entries_of
    from toolkit.stages._model import build_model

    model = build_model(recipe)
    entries = entries_of(model, recipe)
    with preserved(model), without_validation(), quiet():
        return [_forecast(model, entry, recipe) for entry in entries]


def _forecast(model: nn.Module, entry: Entry, recipe: Recipe) -> Forecast:
    from toolkit.capture.capture import example, prepared
    from toolkit.capture.fold import fold_parameters
    from toolkit.capture.noise import with_noise

    try:
        fed = with_noise(model, entry)
        noise = tuple(item.name for item in fed.inputs[len(entry.inputs) :])
        inputs = [example(item) for item in fed.inputs]
        # torch prints the graph to standard error before it raises a guard error.
        with contextlib.redirect_stderr(io.StringIO()), prepared(model, fed, inputs) as (module, _):
            strategy, because, program, guards = _program(module, fed, inputs, recipe)
            before = _operators(program)
            nodes = len(program.graph_module.graph.nodes)
            folding = fold_parameters(program)
            after = _operators(program)
    except Exception as error:  # noqa: BLE001  (whatever torch raises is what the model hits)
        what, where = _stopped(error)
        return Forecast(entry.name, stopped=what, where=where)
    folded = [
        Operator(item.name, item.count, FOLDS, item.module, item.source)
        for name, item in before.items()
        if name not in after
    ]
    order = (FAILS, LOWERED, FOLDS, TRANSLATED)
    operators = sorted((*after.values(), *folded), key=lambda item: order.index(item.how))
    return Forecast(
        entry.name,
        strategy,
        because,
        nodes,
        folding.nodes,
        folding.constants,
        tuple(operators),
        guards,
        noise,
    )


def _program(
    module: Any, entry: Entry, inputs: list[Any], recipe: Recipe
) -> tuple[str, str, torch.export.ExportedProgram, tuple[Specialised, ...]]:
    """Return the strategy that comes first and why, the captured program, and its guards."""
    from toolkit.capture.dynamo import exported
    from toolkit.capture.recorded import recorded_program
    from toolkit.capture.survey import stumbles

    static = recipe.export.static
    guards: tuple[Specialised, ...] = ()
    recorded = "record" in recipe.export.strategies and entry.reference is None
    because = str(stumbles(module, inputs)) if recorded else ""
    if because:
        made = recorded_program(module, entry, inputs, static=static)
        module, inputs, guards = made.program, made.inputs, made.guards
    program = exported(module, entry, inputs, static=static)
    return "record" if because else "dynamo", because, program, guards


def _operators(program: torch.export.ExportedProgram) -> Mapping[str, Operator]:
    """Return the operators that a program runs, after torch's own decompositions."""
    # torch offers no public way to ask which operators it translates.
    from torch.onnx._internal.exporter import _dispatching, _fx_passes

    from toolkit.capture.finish import module_of, source_line

    known = _translated()
    own = {target for _, lowering in registry.lowerings.items() for target in lowering()}
    decomposed = _fx_passes.decompose_with_registry(program, known)
    found: dict[str, Operator] = {}
    for node in _fx_passes.remove_assertion_nodes(decomposed.graph_module).graph.nodes:
        # Only operators have a dot in their names: not getitem, sizes or higher-order ones.
        if (
            node.op != "call_function"
            or node.target is operator.getitem
            or "." not in str(node.target)
        ):
            continue
        name = str(node.meta.get("original_aten") or node.target).removesuffix(".default")
        if (seen := found.get(name)) is not None:
            found[name] = Operator(name, seen.count + 1, seen.how, seen.module, seen.source)
            continue
        how = LOWERED if node.target in own else TRANSLATED
        if how == TRANSLATED and _dispatching.dispatch(node, known)[0] is None:
            how = FAILS
        source = source_line(node.meta.get("stack_trace") or "")
        found[name] = Operator(name, 1, how, module_of(node.meta), source)
    return found


@cache
def _translated() -> Any:
    """Return torch's own registry of translated operators."""
    from torch.onnx._internal.exporter import _registration

    return _registration.ONNXRegistry.from_torchlib()


def _stopped(error: Exception) -> tuple[str, str]:
    if isinstance(error, ToolkitError):
        return error.what, error.where
    lines = [line.strip() for line in _CODE.sub("", str(error)).splitlines() if line.strip()]
    what = f"{type(error).__name__}: {' '.join(lines[:2])}"
    return what[:LONGEST], _own_line(error)


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
