"""Optimize: rewrite every exported graph and make its variants, keeping what is right and pays.

Each pass is judged against the oracle and timed against the graph before it; the ledger records
what it did and why it stayed or was rolled back. A variant is kept or left out per backend.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from toolkit.core.errors import ExportError
from toolkit.core.files import sha256, write_bytes
from toolkit.core.folder import RunFolder
from toolkit.core.outcome import Outcome
from toolkit.core.protocols import Progress, silent
from toolkit.core.recipe import Recipe
from toolkit.core.signature import Signature
from toolkit.stages._open import require_backend
from toolkit.stages._optimize.ledger import Ledger, Row, difference, ledger_path
from toolkit.stages._optimize.race import Timing
from toolkit.stages._optimize.rewrite import (
    FP32,
    Graph,
    Lookup,
    Rewritten,
    as_graph,
    lookup,
    rewrite_entry,
    with_finding,
    with_ratio,
)
from toolkit.stages._optimize.trial import Trial, parity_cases
from toolkit.stages._optimize.variants import make_variant, untimed, verdict

AFTER = ("export",)
SECTIONS = ("optimize", "verify", "seed", "device", "providers")
SOURCES = (
    "core",
    "passes",
    "runtime",
    "checks",
    "backends/_providers.py",
    "backends/onnxruntime.py",
    "stages/_open.py",
    "stages/_optimize",
)
PACKAGES = (
    "numpy",
    "onnx",
    "onnx-ir",
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxscript",
    "onnxslim",
)
MEASURES = True
TOTAL = "all"
"""Name of the ledger's row that compares the final graph with the exported one."""

Result = dict[str, Any]


def run(
    recipe: Recipe,
    folder: RunFolder,
    *,
    replay: Ledger | None = None,
    timing: Timing | None = None,
    progress: Progress = silent,
) -> Outcome:
    """Optimize every entry that export made.

    Arguments:
        recipe: Its `[optimize]` says passes, variants and budgets; `[verify]` the float32 limit.
        folder: The run folder, after export.
        replay: A ledger of the same exported graphs: its verdicts stand, nothing is timed, and the
            files are byte-identical to those of the run that wrote it.
        timing: How long the races may last.
        progress: Called with each entry's name.

    Raises:
        UsageError: The export has not run, or a pass has no such name or fails.
        MissingError: ONNX Runtime cannot run here on the recipe's device and providers.
    """
    require_backend(recipe, ["onnxruntime"])
    exported = folder.stage("export")["entries"]
    rows: list[Row] = []
    entries: dict[str, Result] = {}
    for name, record in sorted(exported.items()):
        progress(name)
        found = lookup(replay, name, record["sha256"])
        entries[name], entry_rows = _optimize_entry(
            recipe, folder, record, found, timing or Timing()
        )
        rows += entry_rows
    inputs = {name: record["sha256"] for name, record in exported.items()}
    Ledger(rows, inputs).save(ledger_path(folder))
    files = [v["file"] for entry in entries.values() for v in entry["variants"].values()]
    detail = {"files": [*files, ledger_path(folder).name], "entries": entries}
    return Outcome("ok", detail=detail)


def _optimize_entry(
    recipe: Recipe, folder: RunFolder, record: Mapping[str, Any], found: Lookup, timing: Timing
) -> tuple[Result, list[Row]]:
    import onnx_ir as ir

    source = folder.path / record["file"]
    signature = Signature.from_dict(record["signature"])
    cases = parity_cases(folder.golden(signature.entry))
    model = ir.load(source)
    if not cases:
        raise ExportError(
            "there are no parity cases to judge a rewrite by",
            where=str(folder.golden(signature.entry)),
            next_step=f"toolkit export {folder.path}",
        )
    with tempfile.TemporaryDirectory(prefix="toolkit-") as scratch:
        trial = Trial(signature, cases, recipe, Path(scratch), timing)
        start = as_graph(model, trial, signature.entry)
        done = rewrite_entry(trial, start, found)
        fp32, row = _against_export(trial, start, done, found(FP32, TOTAL))
        result = _Result(folder, signature.entry)
        shown = row if row.kept else _as_exported(trial, start, row)
        result.add(FP32, fp32, shown, _fp32_kept(trial, shown))
        rows = [*done.rows, row]
        for name in recipe.optimize.variants:
            if name != FP32:
                rows += _add_variant(trial, name, done.portable, fp32, found, result)
    return result.as_dict(), rows


def _against_export(
    trial: Trial, start: Graph, done: Rewritten, known: Row | None
) -> tuple[Graph, Row]:
    """Return the float32 variant: the rewritten graph, or the exported one where that is faster."""
    row = Row(
        entry=trial.signature.entry,
        variant=FP32,
        name=TOTAL,
        count=sum(row.count for row in done.rows if row.kept),
        operators=difference(start.counts, done.graph.counts),
        nodes=(start.nodes, done.graph.nodes),
        bytes=(len(start.data), len(done.graph.data)),
    )
    row = with_finding(row, trial.judge(done.graph.path, FP32, trial.recipe.verify.budget))
    if known is not None:
        row = row.decided_as(known)
    elif not row.count:
        row = replace(row, kept=True, reason="no pass changed the exported graph")
    else:
        raced = trial.race(start.path, done.graph.path)
        reason = f"{raced.ratio.value:.2f}x the exported graph"
        row = with_ratio(replace(row, kept=raced.verdict != "slower", reason=reason), raced)
    return (done.graph if row.kept else start), row


def _as_exported(trial: Trial, start: Graph, row: Row) -> Row:
    """Return what is true of the exported graph, where the rewritten one was slower."""
    reason = f"as exported: the rewritten graph was slower, {row.reason}"
    plain = replace(row, ratio=1.0, kept=True, reason=reason)
    return with_finding(plain, trial.judge(start.path, FP32, trial.recipe.verify.budget))


def _fp32_kept(trial: Trial, row: Row) -> dict[str, Result]:
    return {
        "onnxruntime": verdict(kept=True, ratio=row.ratio, reason=row.reason),
        "tensorrt": untimed(trial),
    }


def _add_variant(
    trial: Trial, name: str, portable: Graph, fp32: Graph, found: Lookup, result: _Result
) -> list[Row]:
    """Make one variant and write it, or note why there is none."""
    try:
        variant = make_variant(trial, name, portable, fp32, found)
    except ExportError as error:
        result.skip(name, error.what)
        return []
    result.add(name, variant.graph, variant.row, variant.kept)
    return [variant.row]


class _Result:
    """Writes variants and collects what the manifest says of them."""

    def __init__(self, folder: RunFolder, entry: str) -> None:
        self.folder, self.entry = folder, entry
        self.variants: dict[str, Result] = {}
        self.skipped: dict[str, str] = {}

    def add(self, name: str, graph: Graph, row: Row, kept: dict[str, Result]) -> None:
        """Write one variant."""
        path = self.folder.entry(self.entry) / f"{name}.onnx"
        write_bytes(path, graph.data)
        self.variants[name] = {
            "file": str(path.relative_to(self.folder.path)),
            "sha256": sha256(path),
            "bytes": len(graph.data),
            "nodes": graph.nodes,
            "error": row.error,
            "limit": row.limit,
            "unit": row.unit,
            "kept": kept,
        }

    def skip(self, name: str, reason: str) -> None:
        """Note why a variant is not made; one of an earlier run goes."""
        (self.folder.entry(self.entry) / f"{name}.onnx").unlink(missing_ok=True)
        self.skipped[name] = reason

    def as_dict(self) -> Result:
        """Return the entry's result, JSON-ready."""
        return {"variants": self.variants, "skipped": self.skipped}
