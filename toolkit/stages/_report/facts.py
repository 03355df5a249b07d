"""What the stages of a run left, read once for the report."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.core.errors import IntegrityError
from toolkit.core.folder import RunFolder
from toolkit.core.recipe import Recipe
from toolkit.stages._record import is_stale

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Facts:
    """A run as its files tell it.

    Arguments:
        recipe: The recipe.
        folder: The run folder.
        records: The manifest's record per stage that has run.
        findings: What verify found.
        bench: `bench/results.json`; empty where bench has not run.
        samples: Raw nanoseconds per contestant.
        rewrites: Rows of the ledger.
        history: The learning curve, one row per epoch.
    """

    recipe: Recipe
    folder: RunFolder
    records: dict[str, Row]
    findings: list[Row]
    bench: Row
    samples: list[Row]
    rewrites: list[Row]
    history: list[dict[str, float]]

    def result(self, stage: str) -> Row:
        """Return a stage's result; empty where it has not run."""
        result: Row = self.records.get(stage, {}).get("result", {})
        return result

    @property
    def entries(self) -> Row:
        """Every exported entry."""
        entries: Row = self.result("export").get("entries", {})
        return entries

    def stale(self, stages: Sequence[str]) -> list[str]:
        """Return the stages whose result is not of the present recipe, inputs and source."""
        return [name for name in stages if is_stale(name, self.recipe, self.folder)]


def read_facts(recipe: Recipe, folder: RunFolder) -> Facts:
    """Read a run folder; what a stage has not made is empty.

    Raises:
        IntegrityError: A file that a stage wrote is damaged.
    """
    records = folder.manifest()["stages"]
    path = folder.path

    def rows(stage: str, file: str, key: str) -> list[Row]:
        return list(_table(path / file).get(key, [])) if stage in records else []

    return Facts(
        recipe=recipe,
        folder=folder,
        records=records,
        findings=rows("verify", "verify/findings.json", "findings"),
        bench=_table(path / "bench/results.json") if "bench" in records else {},
        samples=rows("bench", "bench/samples.json", "rows"),
        rewrites=rows("optimize", "ledger.json", "rows"),
        history=_history(path / "metrics.csv") if "train" in records else [],
    )


def _table(path: Path) -> Row:
    try:
        table = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error
    if not isinstance(table, dict):
        raise _damaged(path, "it holds no table")
    return table


def _history(path: Path) -> list[dict[str, float]]:
    try:
        with path.open(newline="") as stream:
            rows = [
                {name: float(value) for name, value in row.items()}
                for row in csv.DictReader(stream)
            ]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError) as error:
        raise _damaged(path, error) from error
    return [row for row in rows if math.isfinite(row.get("epoch", math.nan))]


def _damaged(path: Path, error: object) -> IntegrityError:
    return IntegrityError(
        f"a result cannot be read: {error}",
        where=str(path),
        next_step="run the stage that writes it again",
    )
