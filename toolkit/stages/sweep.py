"""Run many recipes through the pipeline and say what became of every variant."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from toolkit.core.errors import ToolkitError, UsageError
from toolkit.core.folder import EXPORTED, RunFolder
from toolkit.core.recipe import load_recipe
from toolkit.core.registry import nearest
from toolkit.stages.pipeline import Watch, run_pipeline

PLACES = ("local",)
VARIANTS = ("exported", "fp32", "fp16", "int8")
KEPT_OUT = "kept out"
TIMED = "onnxruntime"


@dataclass(frozen=True, slots=True)
class Cell:
    """What became of one variant, or of the engines for one target, of an entry.

    Arguments:
        status: `ok`, `kept out`, `failed`, or nothing where it was not made.
        reason: Why, where it is not `ok`.
    """

    status: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Swept:
    """One entry of one recipe.

    Arguments:
        recipe: Target as it was given.
        entry: Name of the entry; empty where the run ended before there was one.
        folder: The run folder.
        cells: What became of each variant, and of each builder's engines for each target.
        reason: Why the run ended early; empty where it did not.
    """

    recipe: str
    entry: str
    folder: str
    cells: dict[str, Cell] = field(default_factory=dict)
    reason: str = ""

    @property
    def failed(self) -> bool:
        """Whether anything failed; what was kept out did not."""
        return bool(self.reason) or any(c.status == "failed" for c in self.cells.values())

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return {**asdict(self), "failed": self.failed}


def sweep(
    targets: Sequence[str],
    *,
    place: str = "local",
    last: str = "report",
    fast: bool = False,
    settings: Sequence[str] = (),
    root: Path = EXPORTED,
    watch: Callable[[str], Watch] = lambda _: Watch(),
) -> list[Swept]:
    """Run recipes one after the other; one that fails does not stop the others.

    Arguments:
        targets: Recipes or factories.
        place: Where they run.
        last: Last stage of each.
        fast: Apply each recipe's own `[fast]` table.
        settings: `key=value` overrides for all of them.
        root: Folder of the run folders.
        watch: Makes, for a target, what follows its stages.

    Raises:
        UsageError: There is no such place, or nothing to run.
    """
    if place not in PLACES:
        raise UsageError(
            f"a sweep cannot run on {place!r}", where="--on", next_step=nearest(place, [*PLACES])
        )
    if not targets:
        raise UsageError("there is nothing to sweep", next_step="name recipes, or give --all")
    rows = []
    for target in targets:
        rows += _one(target, last, settings, root, watch(target), fast=fast)
    return rows


def _one(
    target: str, last: str, settings: Sequence[str], root: Path, watch: Watch, *, fast: bool
) -> list[Swept]:
    reason, folder = "", None
    try:
        recipe = load_recipe(target, settings=settings, fast=fast)
        folder = RunFolder(root / recipe.name)
        steps = run_pipeline(recipe, folder, last=last, watch=watch)
        reason = "; ".join(
            f"{step.stage}: {step.outcome.reason}" for step in steps if not step.outcome.ok
        )
    except ToolkitError as error:
        reason = " ".join(str(error).split())
    except Exception as error:  # noqa: BLE001  (one broken model must not end the sweep)
        reason = f"{type(error).__name__}: {error}"
    rows = rows_of(target, folder) if folder is not None else []
    if reason and not any(row.failed for row in rows):
        rows.append(Swept(target, "", str(folder.path if folder else ""), reason=reason))
    return rows


def rows_of(target: str, folder: RunFolder) -> list[Swept]:
    """Return one row per entry of a run, from what its stages recorded."""
    if not folder.has_stage("export"):
        return []
    exported = folder.stage("export")
    failed = {
        name: {"exported": Cell("failed", reason)}
        for name, reason in exported.get("failed", {}).items()
    }
    made = {name: _cells(folder, name) for name in exported["entries"]}
    return [Swept(target, name, str(folder.path), cells) for name, cells in (made | failed).items()]


def _cells(folder: RunFolder, entry: str) -> dict[str, Cell]:
    cells = {"exported": Cell("ok")}
    if folder.has_stage("optimize"):
        made = folder.stage("optimize")["entries"].get(entry, {"variants": {}, "skipped": {}})
        cells |= {name: _variant(row) for name, row in made["variants"].items()}
        cells |= {name: Cell(KEPT_OUT, reason) for name, reason in made["skipped"].items()}
    for variant, reason in _failed_findings(folder, entry).items():
        if variant in cells:
            cells[variant] = Cell("failed", reason)
    if folder.has_stage("build"):
        engines: dict[str, list[dict[str, Any]]] = {}
        for row in folder.stage("build")["engines"]:
            if row["entry"] == entry:
                engines.setdefault(f"{row['engine']} {row['target']}", []).append(row)
        cells |= {name: _engines(rows) for name, rows in engines.items()}
    return cells


def _variant(row: dict[str, Any]) -> Cell:
    """Return the verdict for ONNX Runtime, which is timed; name each backend that goes without."""
    out = [f"{name}: {item['reason']}" for name, item in row["kept"].items() if not item["kept"]]
    return Cell("ok" if row["kept"][TIMED]["kept"] else KEPT_OUT, "; ".join(out))


def _failed_findings(folder: RunFolder, entry: str) -> dict[str, str]:
    path = folder.path / "verify" / "findings.json"
    if not folder.has_stage("verify") or not path.is_file():
        return {}
    return {
        item["variant"]: f"{item['check']} on {item['backend']}: {item['reason']}"
        for item in json.loads(path.read_text())["findings"]
        if item["entry"] == entry and item["status"] == "failed"
    }


def _engines(rows: list[dict[str, Any]]) -> Cell:
    """Return `ok` with the number built; refused operators are kept out, the rest failed."""
    counts = Counter(row["status"] for row in rows)
    reasons = list(dict.fromkeys(row["reason"] for row in rows if row["status"] != "ok"))
    said = "; ".join([f"{counts['ok']} of {len(rows)} built", *reasons])
    if any(row["status"] == "failed" and not row["refused"] for row in rows):
        return Cell("failed", said)
    return Cell("ok" if counts["ok"] else KEPT_OUT, said)
