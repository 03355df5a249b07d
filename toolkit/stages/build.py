"""Build engines of every exported entry, for each engine library, target and precision.

A node that an engine library refuses is no fault of the run: its row says `failed` and names
operator, node and module, the other engines are built, and the stage ends `ok` with that reason,
because the ONNX variants still run everywhere. A crash, a time-out, float64 inputs or a dimension
without a range end the stage `failed`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.core.engine import EngineBuilder, EngineJob
from toolkit.core.errors import UsageError
from toolkit.core.folder import RunFolder
from toolkit.core.outcome import Outcome
from toolkit.core.protocols import Progress, silent
from toolkit.core.recipe import Recipe
from toolkit.core.registry import backends
from toolkit.core.signature import Signature

AFTER = ("export", "optimize")
SECTIONS = ("build",)
SOURCES = ("core", "backends")
PACKAGES = ("onnx", "tensorrt", "tensorrt-rtx")
MEASURES = True

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Wanted:
    """One engine of the plan.

    Arguments:
        entry: Name of the entry.
        engine: Name of the backend, as the recipe writes it.
        target: Compute capability.
        precision: Precision of the variant.
        source: The graph; `None` where there is none to build from.
        reason: Why there is none.
    """

    entry: str
    engine: str
    target: str
    precision: str
    source: Path | None
    reason: str

    @property
    def file(self) -> str:
        """Path of the engine, relative to the run folder."""
        engine = self.engine.replace("_", "-").replace(":", ".")
        return f"entries/{self.entry}/{engine}-{self.target}-{self.precision}.engine"

    def row(self, *, status: str, reason: str, **result: Any) -> Row:
        """Return the manifest's row."""
        return {
            "entry": self.entry,
            "engine": self.engine,
            "target": self.target,
            "precision": self.precision,
            "file": self.file if status == "ok" else None,
            "sha256": None,
            "bytes": None,
            "seconds": None,
            "refused": [],
            **result,
            "status": status,
            "reason": reason,
        }


def run(recipe: Recipe, folder: RunFolder, *, progress: Progress = silent) -> Outcome:
    """Build the engines and return one row per engine.

    Arguments:
        recipe: Its `[build]` says engines, targets, precisions, shapes and the limit per build.
        folder: The run folder, after export.
        progress: Called with the number of finished engines and their total.

    Raises:
        UsageError: The export has not run, or an engine is no backend that builds engines.
    """
    exported = folder.stage("export")["entries"]
    optimized = folder.stage("optimize")["entries"] if folder.has_stage("optimize") else {}
    builders = {engine: _builder(engine) for engine in recipe.build.engines}
    targets = [_actual(target) for target in recipe.build.targets]
    groups = [
        (
            builders[engine],
            _profiles(recipe, record),
            [
                Wanted(entry, engine, target, precision, *source)
                for precision in recipe.build.precisions
                for source in [_source(folder, record, optimized.get(entry, {}), precision)]
                for target in targets
            ],
        )
        for entry, record in sorted(exported.items())
        if record["outcome"]["status"] == "ok"
        for engine in recipe.build.engines
    ]
    total = sum(len(group) for _, _, group in groups)
    rows: list[Row] = []
    for builder, profiles, group in groups:
        rows += _build_group(builder, folder, group, profiles, recipe.build.timeout)
        progress(f"{len(rows)} of {total} engines")
    return _outcome(rows)


def _builder(engine: str) -> EngineBuilder:
    backend = backends.load(engine)
    if not isinstance(backend, EngineBuilder):
        raise UsageError(
            f"the backend {engine!r} builds no engines",
            where="build.engines",
            next_step="give tensorrt-rtx or tensorrt",
        )
    return backend


def _actual(target: str) -> str:
    """Return the compute capability of the GPU here for `current`."""
    if target != "current":
        return target
    from toolkit.backends._tensorrt_build import device_capability

    return device_capability() or target


def _profiles(recipe: Recipe, record: Mapping[str, Any]) -> dict[str, tuple[int, int, int]]:
    """Return the range of every dimension: the recipe's, or else the entry's own."""
    ranges = Signature.from_dict(record["signature"]).ranges
    return {name: (r[0], r[1], r[2]) for name, r in {**ranges, **recipe.build.shapes}.items()}


def _source(
    folder: RunFolder, record: Mapping[str, Any], optimized: Mapping[str, Any], precision: str
) -> tuple[Path | None, str]:
    """Return the graph to build from, or why there is none.

    The plain export is the source in float32: what makes ONNX Runtime faster is not what makes
    TensorRT faster.
    """
    if precision == "fp32":
        return folder.path / record["file"], ""
    variant = optimized.get("variants", {}).get(precision)
    if not variant or not variant.get("file"):
        why = optimized.get("skipped", {}).get(precision) or f"toolkit optimize {folder.path}"
        return None, f"there is no {precision} variant: {why}"
    kept = variant.get("kept", {}).get("tensorrt", {"kept": True})
    if not kept["kept"]:
        return None, f"the {precision} variant is not kept for TensorRT: {kept['reason']}"
    return folder.path / variant["file"], ""


def _build_group(
    builder: EngineBuilder,
    folder: RunFolder,
    group: list[Wanted],
    profiles: dict[str, tuple[int, int, int]],
    timeout: float,
) -> list[Row]:
    """Build the engines of one entry and library; the file of one that failed is taken away."""
    absent = builder.cannot_build()
    reasons = {wanted: absent or wanted.reason for wanted in group}
    jobs = {
        wanted: EngineJob(
            onnx_path=str(wanted.source),
            engine_path=str(folder.path / wanted.file),
            target=wanted.target,
            precision=wanted.precision,
            profiles=profiles,
        )
        for wanted in group
        if not reasons[wanted]
    }
    results = dict(
        zip(jobs, builder.build([*jobs.values()], timeout=timeout) if jobs else [], strict=True)
    )
    rows = []
    for wanted in group:
        result = results.get(wanted) or {"status": "skipped", "reason": reasons[wanted]}
        if result["status"] != "ok":
            (folder.path / wanted.file).unlink(missing_ok=True)
        rows.append(wanted.row(**result))
    return rows


def _outcome(rows: list[Row]) -> Outcome:
    detail = {"files": [row["file"] for row in rows if row["status"] == "ok"], "engines": rows}
    broken = [row for row in rows if row["status"] == "failed" and not row["refused"]]
    reason = "; ".join(filter(None, (_counts(rows), *_reasons(rows))))
    if broken:
        return Outcome("failed", reason, detail)
    built_or_refused = any(row["status"] != "skipped" for row in rows)
    return Outcome("ok" if built_or_refused else "skipped", reason, detail)


def _counts(rows: list[Row]) -> str:
    counts = Counter(row["status"] for row in rows)
    words = {"ok": "built", "failed": "failed", "skipped": "skipped"}
    said = [f"{counts[status]} {word}" for status, word in words.items() if counts[status]]
    return "engines: " + (", ".join(said) or "none asked for")


def _reasons(rows: list[Row]) -> list[str]:
    """Return each different reason once, with the engine or the engines' number."""
    places: dict[str, list[str]] = {}
    for row in rows:
        if row["status"] != "ok":
            place = f"{row['entry']} {row['engine']} {row['target']} {row['precision']}"
            places.setdefault(row["reason"], []).append(place)
    return [
        f"{where[0]}{f' and {len(where) - 1} more' if len(where) > 1 else ''}: {reason}"
        for reason, where in places.items()
    ]
