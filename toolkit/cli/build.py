"""Build TensorRT and TensorRT-RTX engines, GPU or not."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from toolkit.cli._answer import Answer, table
from toolkit.cli._options import Run, Settings
from toolkit.core.errors import UsageError


def command(
    run: Run,
    engine: Annotated[
        str, typer.Option("--engine", help="tensorrt-rtx,tensorrt", metavar="NAMES")
    ] = "",
    target: Annotated[
        str, typer.Option("--target", help="Compute capabilities: 8.6,8.9.", metavar="NUMBERS")
    ] = "",
    shapes: Annotated[
        list[str],
        typer.Option("--shapes", help="Profile: 'batch=1:8:64'.", metavar="DIM=MIN:TYPICAL:MAX"),
    ] = [],
    settings: Settings = [],
) -> Answer:
    """Build TensorRT and TensorRT-RTX engines, GPU or not."""
    from toolkit.cli._options import open_run, overrides, split
    from toolkit.cli._steps import run_one
    from toolkit.stages.pipeline import exit_code

    given = overrides(
        settings,
        build__engines=split(engine),
        build__targets=split(target),
    )
    recipe, folder = open_run(run, [*given, *(_profile(text) for text in shapes)])
    step = run_one("build", recipe, folder)
    return Answer(step.outcome.as_dict(), lambda: _text(step.outcome.detail), exit_code([step]))


def _profile(text: str) -> str:
    name, _, sizes = text.partition("=")
    numbers = sizes.split(":")
    if len(numbers) != 3 or not all(number.isdigit() for number in numbers):
        raise UsageError(f"cannot read --shapes {text}", next_step="write it like batch=1:8:64")
    return f"build.shapes.{name}=[{','.join(numbers)}]"


def _text(detail: dict[str, Any]) -> str:
    rows = [
        [
            row["entry"],
            row["engine"],
            row["target"],
            row["precision"],
            row["status"],
            row.get("bytes"),
            row.get("seconds"),
            row["reason"],
        ]
        for row in detail["engines"]
    ]
    headers = ["entry", "engine", "target", "precision", "status", "bytes", "seconds", "reason"]
    return table(headers, rows)
