"""Run many recipes; one table of every variant."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.cli._answer import Answer, table
from toolkit.cli._options import Fast, Settings
from toolkit.core.errors import CheckFailed, UsageError

if TYPE_CHECKING:
    from toolkit.stages.pipeline import Step, Watch
    from toolkit.stages.sweep import Cell, Swept

NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?")
ALL_BUILT = re.compile(r"(\d+) of \1 built")


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
    """Return one line per entry, then what the notes in brackets mean, then the sum."""
    from toolkit.stages.sweep import VARIANTS

    names = dict.fromkeys([*VARIANTS, *(name for row in rows for name in row.cells)])
    columns = [name for name in names if any(name in row.cells for row in rows)]
    notes = _Notes()
    lines = [
        [
            row.recipe,
            row.entry,
            *(notes.mark(row.cells[name]) if name in row.cells else "" for name in columns),
            *([notes.mark(_ended(row))] if any(row.reason for row in rows) else []),
        ]
        for row in rows
    ]
    ended = ["ended early"] if any(row.reason for row in rows) else []
    parts = [table(["recipe", "entry", *columns, *ended], lines)]
    if notes.texts:
        parts.append(table(["note", "cells", "reason"], notes.rows()))
    failed = sum(row.failed for row in rows)
    recipes = len({row.recipe for row in rows})
    parts.append(f"recipes: {recipes} · entries: {len(rows)} · failed: {failed}")
    return "\n\n".join(parts)


def _ended(row: Swept) -> Cell:
    from toolkit.stages.sweep import Cell

    return Cell("failed", row.reason) if row.reason else Cell()


class _Notes:
    """Reasons by number; those that differ in their numbers alone are one, with the range."""

    def __init__(self) -> None:
        self.texts: dict[str, list[str]] = {}

    def mark(self, cell: Cell) -> str:
        """Return a cell's status, with the number of its reason where it has one to read."""
        if not cell.reason or (cell.status == "ok" and ALL_BUILT.fullmatch(cell.reason)):
            return cell.status
        kind = NUMBER.sub("#", cell.reason)
        self.texts.setdefault(kind, []).append(cell.reason)
        return f"{cell.status} [{list(self.texts).index(kind) + 1}]"

    def rows(self) -> list[list[str]]:
        """Return each note's number, how many cells it stands in, and its text."""
        return [
            [f"[{place}]", str(len(texts)), _merged(texts)]
            for place, texts in enumerate(self.texts.values(), 1)
        ]


def _merged(texts: list[str]) -> str:
    """Return the one text of reasons that differ in numbers, each as `lowest to highest`."""
    places = zip(*map(NUMBER.findall, texts), strict=True)
    ranges = iter([sorted(set(items), key=float) for items in places])

    def span(_: re.Match[str]) -> str:
        numbers = next(ranges)
        return numbers[0] if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"

    return NUMBER.sub(span, texts[0])
