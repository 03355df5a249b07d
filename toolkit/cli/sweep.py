"""Run many recipes; one table of every variant."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.cli._answer import Answer, table
from toolkit.cli._options import Fast, Settings
from toolkit.core.errors import CheckFailed, UsageError

if TYPE_CHECKING:
    from toolkit.stages.pipeline import Step, Watch
    from toolkit.stages.sweep import Swept


def command(
    targets: Annotated[
        list[str],
        typer.Argument(help="Recipes, or package.module:factory.", metavar="TARGET…"),
    ] = [],
    everything: Annotated[bool, typer.Option("--all", help="Every recipe.")] = False,
    place: Annotated[str, typer.Option("--on", help="Where: local.", metavar="PLACE")] = "local",
    last: Annotated[str, typer.Option("--until", help="Last stage.", metavar="STAGE")] = "report",
    fast: Fast = False,
    settings: Settings = [],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the run folders.", metavar="DIR")
    ] = Path("exported"),
) -> Answer:
    """Run many recipes; one table of every variant.

    A recipe that fails does not stop the others. Exits 1 where anything failed; a variant that was
    kept out has not.
    """
    from toolkit.core.recipe import recipe_names
    from toolkit.stages.sweep import sweep

    if everything and targets:
        raise UsageError("both recipes and --all are given", next_step="give one of them")
    rows = sweep(
        recipe_names() if everything else targets,
        place=place,
        last=last,
        fast=fast,
        settings=settings,
        root=output,
        watch=_following,
    )
    code = CheckFailed.exit_code if any(row.failed for row in rows) else 0
    return Answer([row.as_dict() for row in rows], lambda: _text(rows), code)


def _following(target: str) -> Watch:
    """Return what prints a line as each stage of a target ends."""
    from toolkit.stages.pipeline import Watch

    def ended(step: Step) -> None:
        took = "unchanged" if step.current else f"{step.seconds:.1f} s"
        line = f"{target:<24}{step.stage:<10}{step.outcome.status:<9}{took}"
        print(line, file=sys.stderr, flush=True)

    return Watch() if os.environ.get("TOOLKIT_QUIET") else Watch(ended=ended)


def _text(rows: list[Swept]) -> str:
    from toolkit.stages.sweep import VARIANTS

    names = dict.fromkeys([*VARIANTS, *(name for row in rows for name in row.cells)])
    columns = [name for name in names if any(name in row.cells for row in rows)]
    lines = [
        [
            row.recipe,
            row.entry,
            *(row.cells[name].status if name in row.cells else "" for name in columns),
            row.reason,
        ]
        for row in rows
    ]
    summary = table(["recipe", "entry", *columns, "ended early"], lines)
    why = [
        [row.recipe, row.entry, name, cell.status, cell.reason]
        for row in rows
        for name, cell in row.cells.items()
        if cell.reason
    ]
    if not why:
        return summary
    return f"{summary}\n\n{table(['recipe', 'entry', 'variant', 'status', 'reason'], why)}"
