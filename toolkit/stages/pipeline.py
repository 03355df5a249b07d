"""The pipeline: run every stage in order, skip what is finished and unchanged."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from toolkit.core.errors import UsageError
from toolkit.core.folder import RunFolder
from toolkit.core.outcome import Outcome
from toolkit.core.protocols import Progress, silent
from toolkit.core.recipe import Recipe
from toolkit.core.registry import nearest
from toolkit.stages._record import STAGES, is_current, record_stage, stage_module

EXIT_CODES = {"train": 1, "export": 3, "optimize": 3, "build": 3, "verify": 1, "bundle": 1}


@dataclass(frozen=True, slots=True)
class Step:
    """How one stage of a run ended.

    Arguments:
        stage: Its name.
        outcome: What it answered.
        seconds: Wall-clock time.
        current: Whether it was skipped because nothing had changed.
    """

    stage: str
    outcome: Outcome
    seconds: float
    current: bool


@dataclass(slots=True)
class Watch:
    """What a caller may follow while the pipeline runs.

    Arguments:
        begun: Called with a stage's name before it runs.
        said: Called with what the running stage is at.
        ended: Called with every step.
    """

    begun: Progress = silent
    said: Progress = silent
    ended: Callable[[Step], None] = field(default=lambda _: None)


def run_pipeline(
    recipe: Recipe,
    folder: RunFolder,
    *,
    first: str = STAGES[0],
    last: str = STAGES[-1],
    watch: Watch | None = None,
) -> list[Step]:
    """Run the stages from `first` to `last`; after a failure only the report is still made.

    Arguments:
        recipe: The recipe.
        folder: The run folder; it is locked meanwhile.
        first: First stage; it runs even if it is unchanged when it is not the very first one.
        last: Last stage.
        watch: Called as stages begin and end.

    Raises:
        UsageError: A stage's name is wrong, or another process writes this run.
        ToolkitError: A stage could not do its work; what earlier stages left stays.
    """
    follow = watch or Watch()
    steps: list[Step] = []
    with folder.locked():
        for name in chosen_stages(first, last):
            failed = any(not step.outcome.ok for step in steps)
            if failed and name != "report":
                continue
            follow.begun(name)
            forced = name == first and first != STAGES[0]
            step = _run_stage(name, recipe, folder, follow, forced=forced)
            follow.ended(step)
            steps.append(step)
    return steps


def run_stage(name: str, recipe: Recipe, folder: RunFolder, *, watch: Watch | None = None) -> Step:
    """Run one stage alone, whether or not it is current, and record it."""
    with folder.locked():
        return _run_stage(name, recipe, folder, watch or Watch(), forced=True)


def exit_code(steps: Sequence[Step]) -> int:
    """Return the exit code of the first stage that failed, its own or its kind's; 0 without."""
    failed = next((step for step in steps if not step.outcome.ok), None)
    if failed is None:
        return 0
    return int(failed.outcome.detail.get("exit_code", EXIT_CODES.get(failed.stage, 1)))


def _run_stage(name: str, recipe: Recipe, folder: RunFolder, watch: Watch, *, forced: bool) -> Step:
    if not forced and is_current(name, recipe, folder):
        record = folder.manifest()["stages"][name]
        outcome = Outcome(record["status"], record["reason"], record["result"])
        return Step(name, outcome, 0.0, current=True)
    started = time.perf_counter()
    outcome = stage_module(name).run(recipe, folder, progress=watch.said)
    record_stage(folder, name, recipe, outcome, started=started)
    return Step(name, outcome, time.perf_counter() - started, current=False)


def chosen_stages(first: str, last: str) -> Sequence[str]:
    """Return the stages from `first` to `last`.

    Raises:
        UsageError: A name is wrong, or they are in the wrong order.
    """
    for name in (first, last):
        if name not in STAGES:
            raise UsageError(f"no stage is called {name!r}", next_step=nearest(name, list(STAGES)))
    start, stop = STAGES.index(first), STAGES.index(last)
    if start > stop:
        raise UsageError(
            f"{first} comes after {last}", next_step="stages in order: " + ", ".join(STAGES)
        )
    return STAGES[start : stop + 1]
