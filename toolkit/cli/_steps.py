"""Run pipeline stages from a command, with progress for people and a table at the end."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from toolkit.cli._answer import Answer, table

if TYPE_CHECKING:
    from toolkit.core.folder import RunFolder
    from toolkit.core.recipe import Recipe
    from toolkit.stages.pipeline import Step, Watch


def run_steps(recipe: Recipe, folder: RunFolder, *, first: str, last: str) -> Answer:
    """Run the stages from `first` to `last` and answer with a line per stage."""
    from toolkit.stages.pipeline import chosen_stages, exit_code, run_pipeline

    with _progress(chosen_stages(first, last)) as watch:
        steps = run_pipeline(recipe, folder, first=first, last=last, watch=watch)
    return answer_steps(steps, folder, exit_code(steps))


def run_one(name: str, recipe: Recipe, folder: RunFolder) -> Step:
    """Run one stage with a progress line."""
    from toolkit.stages.pipeline import run_stage

    with _progress((name,)) as watch:
        watch.begun(name)
        step = run_stage(name, recipe, folder, watch=watch)
        watch.ended(step)
    return step


def answer_steps(steps: Sequence[Step], folder: RunFolder, code: int) -> Answer:
    """Return the answer of several stages: status, seconds, and the reason of a failure."""
    rows = [
        [
            step.stage,
            step.outcome.status,
            "unchanged" if step.current else f"{step.seconds:.1f} s",
            step.outcome.reason,
        ]
        for step in steps
    ]
    data = {
        "folder": str(folder.path),
        "stages": [
            {
                "stage": step.stage,
                "seconds": round(step.seconds, 3),
                "unchanged": step.current,
                **step.outcome.as_dict(),
            }
            for step in steps
        ],
    }
    return Answer(data, lambda: table(["stage", "status", "time", "reason"], rows), code)


@contextlib.contextmanager
def _progress(stages: Sequence[str]) -> Iterator[Watch]:
    """Yield a watch that draws a progress bar on a terminal, or one line per stage elsewhere."""
    from toolkit.stages.pipeline import Watch

    if os.environ.get("TOOLKIT_QUIET"):
        yield Watch()
        return
    if not sys.stderr.isatty():
        yield Watch(ended=_print_step)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    bar = Progress(
        TextColumn("{task.description:<10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[said]}"),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        task: Any = bar.add_task("", total=len(stages), said="")

        def ended(step: Step) -> None:
            bar.advance(task)
            bar.console.print(_line(step))

        def begun(name: str) -> None:
            bar.update(task, description=name, said="")

        yield Watch(begun=begun, said=lambda text: bar.update(task, said=text), ended=ended)


def _print_step(step: Step) -> None:
    print(_line(step), file=sys.stderr, flush=True)


def _line(step: Step) -> str:
    took = "unchanged" if step.current else f"{step.seconds:.1f} s"
    return f"{step.stage:<10}{step.outcome.status:<9}{took}"
