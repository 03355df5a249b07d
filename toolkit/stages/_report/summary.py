"""One row per entry of a run: what was proved, how fast it is, what is shipped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from toolkit.core.folder import RunFolder
from toolkit.core.recipe import Recipe
from toolkit.stages._report.facts import Facts, read_facts

BEST = "fp32"


def summarize(recipe: Recipe, folder: RunFolder) -> list[dict[str, Any]]:
    """Return, per exported entry, its checks, error, nodes, speed, variants and engines.

    Arguments:
        recipe: The recipe of the run.
        folder: The run folder, after export.
    """
    if not folder.has_stage("export"):
        return []
    facts = read_facts(recipe, folder)
    return [_row(facts, entry) for entry in facts.entries]


def _row(facts: Facts, entry: str) -> dict[str, Any]:
    variants = facts.result("optimize").get("entries", {}).get(entry, {}).get("variants", {})
    engines = [row for row in facts.result("build").get("engines", []) if row["entry"] == entry]
    findings = [row for row in facts.findings if row["entry"] == entry]
    parity = next(
        (row for row in findings if row["check"] == "parity" and row["variant"] == BEST), {}
    )
    return {
        "entry": entry,
        "checks": _counts([row["status"] for row in findings]),
        "error": parity.get("value"),
        "limit": parity.get("limit"),
        "unit": parity.get("unit"),
        "nodes": variants.get(BEST, {}).get("nodes"),
        "speed": _speeds(facts, entry),
        "variants": [
            name
            for name, row in variants.items()
            if any(kept["kept"] for kept in row["kept"].values())
        ],
        "engines": sum(row["status"] == "ok" for row in engines),
    }


def _counts(statuses: Sequence[str]) -> str:
    failed = statuses.count("failed")
    return f"{failed} failed" if failed else f"{statuses.count('ok')} ok"


def _speeds(facts: Facts, entry: str) -> list[dict[str, Any]]:
    """Return, per batch, how many times faster than eager the fp32 graph is in ONNX Runtime."""
    rows = [
        row
        for row in facts.bench.get("rows", [])
        if row["entry"] == entry
        and row["backend"] == "onnxruntime"
        and row["variant"] == BEST
        and row["ratio"] is not None
    ]
    keys = ("batch", "ratio", "interval", "verdict", "p50_ms")
    return [{key: row[key] for key in keys} for row in rows]
