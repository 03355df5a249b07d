"""Export: every entry becomes one ONNX file, judged against the oracle, with golden cases."""

from __future__ import annotations

import math
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.core import registry
from toolkit.core.case import Case, save_cases
from toolkit.core.entry import Entry, Input
from toolkit.core.errors import ExportError, TimedOut, ToolkitError
from toolkit.core.files import sha256
from toolkit.core.folder import GOLDEN, RunFolder
from toolkit.core.outcome import Outcome
from toolkit.core.protocols import Data, Progress, Source, Subject, silent
from toolkit.core.recipe import Recipe
from toolkit.core.signature import Signature

if TYPE_CHECKING:
    from torch import nn

    from toolkit.capture.oracle import Oracle
    from toolkit.core.protocols import Run

AFTER = ("train",)
SECTIONS = ("model", "data", "seed", "export", "verify")
SOURCES = (
    "core",
    "nn",
    "data",
    "models",
    "adapters",
    "lowerings",
    "passes/_exact.py",
    "passes/_graph.py",
    "passes/gathers.py",
    "passes/log1p.py",
    "passes/powers.py",
    "passes/sigmoid.py",
    "passes/sink_transposes.py",
    "passes/zeros.py",
    "capture",
    "schedules",
    "checks",
    "runtime",
    "backends/_providers.py",
    "backends/onnxruntime.py",
    "stages/_entries.py",
    "stages/_model.py",
    "stages/_open.py",
)
PACKAGES = (
    "torch",
    "onnx",
    "onnxscript",
    "onnx-ir",
    "onnxruntime",
    "zuko",
    "nflows",
    "normflows",
    "FrEIA",
    "pyro-ppl",
)
MEASURES = False

FILE = "exported.onnx"
NEIGHBOURS = 3
FEWEST = 16
# Eager takes some ten seconds for as many in float64, and a dozen cases ask it.
MOST_OPERATIONS = 1e11
# Where a few samples take more than these, each holds so many numbers that two say enough.
MOST_OF_FEWEST = 5e11
# A state of caches holds tens of millions in one sample: a case keeps its inputs and both answers.
MOST_NUMBERS = 5e7
FEWEST_LARGE = 2


@dataclass(frozen=True, slots=True)
class Exported:
    """The result of one entry.

    Arguments:
        outcome: ok, or failed with the reason.
        path: The `.onnx` file; it exists where the outcome is ok.
        detail: Signature, strategy, attempts and folding, JSON-ready.
    """

    outcome: Outcome
    path: Path
    detail: dict[str, Any]

    @property
    def signature(self) -> Signature:
        """What the graph takes and gives."""
        return Signature.from_dict(self.detail["signature"])


def run(recipe: Recipe, folder: RunFolder, *, progress: Progress = silent) -> Outcome:
    """Export every entry of the recipe's model."""
    from toolkit.stages._entries import entries_of
    from toolkit.stages._model import WEIGHTS, build_model, load_data, load_model

    trained = (folder.path / WEIGHTS).exists()
    model = load_model(recipe, folder) if trained else build_model(recipe)
    results = export_entries(
        model, entries_of(model, recipe), folder, recipe, data=load_data(recipe), progress=progress
    )
    return summary(results, folder)


def export_entries(
    model: nn.Module,
    entries: Sequence[Entry],
    folder: RunFolder,
    recipe: Recipe,
    *,
    data: Data | None = None,
    progress: Progress = silent,
) -> dict[str, Exported]:
    """Export entries one by one; one that fails does not stop the others.

    Arguments:
        model: Any module; its state is put back afterwards.
        entries: What to export.
        folder: Where the files go.
        recipe: Opset, strategies, number of samples and limits.
        data: Real samples for the checks.
        progress: Called with each entry's name.
    """
    results = {}
    for entry in entries:
        progress(entry.name)
        results[entry.name] = _export(model, entry, entries, folder, recipe, data)
    return results


def summary(results: dict[str, Exported], folder: RunFolder) -> Outcome:
    """Return the stage's outcome: failed, with every reason, where an entry failed."""
    failed = [f"{name}: {r.outcome.reason}" for name, r in results.items() if not r.outcome.ok]
    files = [
        str(path.relative_to(folder.path))
        for result in results.values()
        if result.outcome.ok
        for path in (result.path, result.path.with_name(GOLDEN))
    ]
    entries = {name: result.detail for name, result in results.items() if result.outcome.ok}
    detail: dict[str, Any] = {
        "files": files,
        "family": next((item["signature"]["family"] for item in entries.values()), ""),
        "entries": entries,
        "failed": {name: r.outcome.reason for name, r in results.items() if not r.outcome.ok},
    }
    codes = {r.outcome.detail["exit_code"] for r in results.values() if not r.outcome.ok}
    if codes == {TimedOut.exit_code}:
        detail["exit_code"] = TimedOut.exit_code
    return Outcome("failed" if failed else "ok", "; ".join(failed), detail)


def _export(
    model: nn.Module,
    entry: Entry,
    entries: Sequence[Entry],
    folder: RunFolder,
    recipe: Recipe,
    data: Data | None,
) -> Exported:
    from toolkit.capture.capture import capture
    from toolkit.capture.dynamo import Form
    from toolkit.capture.noise import with_noise

    settings = recipe.export
    path = folder.entry(entry.name) / FILE
    try:
        entry = with_noise(model, entry)
        _refuse_chance(model, entry)
        judge = _Judge(model, entry, entries, recipe, data)
        captured = capture(
            model,
            entry,
            path,
            form=Form(settings.opset, settings.static, settings.custom_ops),
            strategies=settings.strategies,
            judge=judge,
            timeout=settings.timeout,
        )
    except Exception as error:  # noqa: BLE001  (what a user's model may raise inside has no end)
        refused = error if isinstance(error, ToolkitError) else _unforeseen(error, entry)
        for stale in (path, path.with_name(GOLDEN)):
            stale.unlink(missing_ok=True)
        return Exported(Outcome("failed", str(refused), refused.as_dict()), path, {})
    save_cases(path.with_name(GOLDEN), judge.cases)
    detail = {
        **captured.as_dict(),
        "schedule": getattr(entry.call, "layout", ""),
        "file": str(path.relative_to(folder.path)),
        "sha256": sha256(path),
        "outcome": Outcome("ok").as_dict(),
    }
    return Exported(Outcome("ok"), path, detail)


def _unforeseen(error: Exception, entry: Entry) -> ExportError:
    """Return an error of any kind in three parts; its last lines say where it came from."""
    frames = traceback.extract_tb(error.__traceback__)
    where = "; ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames[-3:])
    return ExportError(
        f"{type(error).__name__}: {error}",
        where=f"entry {entry.name!r}, {where}",
        next_step="see which operators and inputs the call has: toolkit doctor --model",
    )


def _refuse_chance(model: nn.Module, entry: Entry) -> None:
    """Refuse a call that answers the same inputs twice in two ways: no graph can be its equal.

    Raises:
        ExportError: It does.
    """
    import torch

    from toolkit.capture.module import as_tuple, reference_module
    from toolkit.capture.preserve import preserved

    if any(item.value is None for item in entry.inputs):
        return
    module = reference_module(model, entry)
    with preserved(model), torch.no_grad():
        try:
            first, again = (
                as_tuple(module(*(item.value.clone() for item in entry.inputs))) for _ in range(2)
            )
        except Exception:  # noqa: BLE001  (a call that fails in eager is reported by the capture)
            return
    for one, other in zip(first, again, strict=True):
        if one.shape != other.shape or not torch.allclose(one, other, equal_nan=True):
            raise ExportError(
                "the call gives other answers to the same inputs",
                where=f"entry {entry.name!r}",
                next_step="draw by torch.randn or torch.rand, which become inputs of the graph, or "
                "take the numbers as an input of kind noise; keep no state between calls",
            )


class _Judge:
    """Say what is wrong with a captured file; make the golden cases on the first call."""

    def __init__(
        self,
        model: nn.Module,
        entry: Entry,
        entries: Sequence[Entry],
        recipe: Recipe,
        data: Data | None,
    ) -> None:
        self.model, self.entry, self.entries = model, entry, entries
        self.recipe, self.data = recipe, data
        self.cases: list[Case] = []
        self.asked_again = False

    def __call__(self, path: Path, signature: Signature, can_yield: bool) -> str:  # noqa: FBT001
        from toolkit.stages._open import opened

        if not self.cases:
            self.cases = self._prepare(signature, neighbours=0)
        try:
            with opened(path, signature) as run:
                reason = self._reason(path, signature, run)
                if reason and not can_yield and not self.asked_again:
                    self.asked_again = True
                    self.cases = self._prepare(signature, neighbours=NEIGHBOURS)
                    reason = self._reason(path, signature, run)
        except ToolkitError as error:
            return f"the graph does not run: {error.what}"
        return reason

    def _reason(self, path: Path, signature: Signature, run: Run) -> str:
        """Return what is wrong by the checks without which no graph is taken, or nothing."""
        subject = self._subject(path, signature, run)
        for name in ("parity", "batch", "sizes"):
            found = registry.checks.load(name).judge(subject)
            if found is not None and found.status not in ("ok", "skipped"):
                numbers = (
                    ""
                    if found.value is None
                    else f"{found.value:.3g} against a limit of {found.limit:.3g}: "
                )
                return f"{name}: {numbers}{found.reason}"
        return ""

    def _subject(self, path: Path, signature: Signature, run: Run) -> Subject:
        return Subject(
            signature=signature,
            variant="exported",
            backend="onnxruntime",
            path=path,
            run=run,
            cases=self.cases,
            sibling=lambda _: None,
            budget=self.recipe.verify.budget,
            k=self.recipe.verify.k,
        )

    def _prepare(self, signature: Signature, *, neighbours: int) -> list[Case]:
        """Make every check's cases.

        One run in float32 says little of its error where a model magnifies rounding a millionfold
        for one sample in a thousand: the largest error is then a matter of luck. Where the first
        verdict is against a graph, eager answers at neighbouring inputs too.
        """
        from toolkit.capture.oracle import Oracle

        outputs = [spec.name for spec in signature.outputs]
        oracle = Oracle(self.model, self.entry, outputs, neighbours=neighbours)
        source = Source(
            entry=self.entry,
            signature=signature,
            model=self.model,
            data=self.data,
            samples=self._samples(signature, oracle),
            seed=self.recipe.seed,
            answer=oracle.answer,
            entries=self.entries,
            exact=oracle.exact,
            eager=oracle.eager,
        )
        return [case for _, check in registry.checks.items() for case in check.prepare(source)]

    def _samples(self, signature: Signature, oracle: Oracle) -> int:
        """Return how many samples a case holds.

        A sampler makes one decision per position; a network that multiplies for seconds a sample
        would be asked for hours, and one with a large state would fill the memory: they are, if the
        recipe says so.
        """
        wanted = self.recipe.verify.samples
        if self.entry.reference is not None and signature.inputs[0].kind == "noise":
            return max(FEWEST, wanted // self.entry.inputs[0].shape[0])
        if "samples" in self.recipe.verify.model_fields_set:
            return wanted
        operations = max(1.0, oracle.operations)
        fit = MOST_NUMBERS / sum(_numbers(item) for item in self.entry.inputs)
        few = min(FEWEST, max(FEWEST_LARGE, int(min(MOST_OF_FEWEST / operations, fit))))
        return min(wanted, max(few, int(min(MOST_OPERATIONS / operations, fit))))


def _numbers(item: Input) -> float:
    """Return how many numbers of an input belong to one sample."""
    return math.prod(item.shape) / (item.shape[item.batch_axis] if item.shape else 1)


def export(
    model: nn.Module,
    entries: Sequence[Entry],
    folder: str | Path,
    *,
    data: Data | None = None,
    **settings: Any,
) -> dict[str, Exported]:
    """Export any module; the Python form of `toolkit export`.

    Arguments:
        model: Any `nn.Module`; evaluation mode is set for the capture and put back.
        entries: The graphs to export.
        folder: The run folder to write.
        data: Real samples for the checks; without it they are drawn like the examples.
        settings: Keys of the recipe's `[export]` section, such as `opset=20`.

    Returns:
        Per entry its outcome, path and signature.

    Raises:
        UsageError: A setting is unknown, the model has no weights, or the folder cannot be
            written.
    """
    from toolkit.core.recipe import parse_recipe
    from toolkit.stages._entries import plain_entries
    from toolkit.stages._model import on_processor
    from toolkit.stages._record import record_stage

    run_folder = RunFolder(Path(folder))
    recipe = parse_recipe(
        {"name": run_folder.name, "export": settings}, where="toolkit.export(...)"
    )
    placed = on_processor(model)
    plain = plain_entries(placed, entries)
    with run_folder.locked():
        results = export_entries(placed, plain, run_folder, recipe, data=data)
        outcome = summary(results, run_folder)
        record_stage(run_folder, "export", recipe, outcome)
    return results
