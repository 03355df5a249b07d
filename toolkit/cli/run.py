"""Run the whole pipeline; finished, unchanged stages are skipped."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from toolkit.cli._answer import Answer, table
from toolkit.cli._options import Device, Fast, Output, Providers, Seed, Settings, Target

PRODUCTS = ("bundle.zip", "report.html")


def command(
    target: Target,
    first: Annotated[str, typer.Option("--from", help="First stage.", metavar="STAGE")] = "train",
    last: Annotated[str, typer.Option("--until", help="Last stage.", metavar="STAGE")] = "report",
    fast: Fast = False,
    settings: Settings = [],
    output: Output = None,
    seed: Seed = None,
    device: Device = "",
    providers: Providers = "",
) -> Answer:
    """Run the whole pipeline; finished, unchanged stages are skipped.

    train, export, optimize, build, verify, bench, bundle, report: each leaves its files in the
    run folder. A stage that fails stops the run, and the report is still written.
    """
    from toolkit.cli._options import folder_for, overrides
    from toolkit.cli._steps import run_steps
    from toolkit.core.recipe import load_recipe
    from toolkit.stages._report.summary import summarize

    given = overrides(settings, seed=seed, device=device, providers=providers)
    recipe = load_recipe(target, settings=given, fast=fast)
    folder = folder_for(recipe, output)
    stages = run_steps(recipe, folder, first=first, last=last)
    rows = summarize(recipe, folder)
    made = [path for name in PRODUCTS if (path := folder.path / name).is_file()]
    data = {**stages.data, "summary": rows, "made": [str(path) for path in made]}
    return Answer(data, lambda: _text(stages.text(), rows, made), stages.code)


def _text(stages: str, rows: list[dict[str, Any]], made: list[Path]) -> str:
    headers = ["entry", "checks", "error", "limit", "unit", "nodes", "speed", "kept", "engines"]
    lines = [
        [
            row["entry"],
            row["checks"],
            row["error"],
            row["limit"],
            row["unit"],
            row["nodes"],
            ", ".join(_speed(item) for item in row["speed"]),
            ", ".join(row["variants"]),
            row["engines"],
        ]
        for row in rows
    ]
    paths = "\n".join(f"{path.suffix.lstrip('.')}: {path}" for path in made)
    return "\n\n".join(part for part in (stages, table(headers, lines), paths) if part)


def _speed(item: dict[str, Any]) -> str:
    """Return how many times faster than eager, with the interval and the batch."""
    low, high = item["interval"]
    return f"{item['ratio']:.1f}x [{low:.1f}, {high:.1f}] at {item['batch']}"
