"""A quick race of two graphs in one process: enough to keep or drop a rewrite."""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.core import registry
from toolkit.core.clock import Slot, take_slot
from toolkit.core.protocols import Artifact
from toolkit.core.signature import Signature
from toolkit.core.statistics import SMALLEST_EFFECT, Ratio, Verdict, compare_rounds, judge

if TYPE_CHECKING:
    import numpy as np

    Arrays = dict[str, np.ndarray]

Call = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a race may last.

    Arguments:
        slot: Seconds of one uninterrupted turn of one graph at one batch size.
        rounds: Rounds before the first look.
        most: Rounds after which it stays undecided.
        fresh: Rounds after which the graphs are loaded anew: where their weights happen to lie
            in memory changes speed by some percent, and must not decide.
    """

    slot: float = 0.01
    rounds: int = 12
    most: int = 24
    fresh: int = 4


@dataclass(frozen=True, slots=True)
class Course:
    """What both graphs run on.

    Arguments:
        signature: The entry's inputs and outputs.
        feeds: Inputs at each batch size that counts; each round takes all of them.
        device: As in the recipe.
        providers: As in the recipe.
        timing: How long it may last.
        seed: Seed of the order of turns.
    """

    signature: Signature
    feeds: Sequence[Arrays]
    device: str = "cpu"
    providers: Sequence[str] = ("cpu",)
    timing: Timing = Timing()
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Raced:
    """How a race ended.

    Arguments:
        ratio: How many times faster the contestant is than the baseline.
        band: The noise band: how far the baseline, loaded a second time, seems to differ from
            itself in the same rounds.
    """

    ratio: Ratio
    band: float

    @property
    def verdict(self) -> Verdict:
        """Return faster, slower or undecided."""
        return judge(self.ratio, self.band)

    @property
    def is_clear(self) -> bool:
        """Whether more rounds would not change the verdict: decided, or equal within 1 %."""
        margin = 1.0 + SMALLEST_EFFECT
        equal = self.ratio.low > 1.0 / margin and self.ratio.high < margin
        return equal or self.verdict != "undecided"


def race(course: Course, baseline: Path, contestant: Path, *, favoured: bool = False) -> Raced:
    """Time two graphs in turns until their order is clear or the rounds are spent.

    The clock is the process's CPU time, which other jobs on the machine do not lengthen; on a GPU
    it is wall-clock time. The baseline takes part twice.

    Arguments:
        course: What both run on.
        baseline: The graph before.
        contestant: The graph after.
        favoured: Whether the contestant wins unless it is slower: then a race in which it does
            not look slower need not be long.
    """
    order = random.Random(course.seed)
    times: tuple[list[list[float]], ...] = ([], [], [])
    while True:
        with contextlib.ExitStack() as stack:
            runners = [_calls(course, path, stack) for path in (baseline, baseline, contestant)]
            for _ in range(course.timing.fresh):
                _take_round(course, runners, order, times)
        raced = Raced(
            compare_rounds(times[0], times[2], seed=course.seed),
            compare_rounds(times[0], times[1], seed=course.seed).band,
        )
        rounds = len(times[0])
        settled = raced.is_clear or (favoured and raced.ratio.value >= 1.0)
        if rounds >= course.timing.most or (rounds >= course.timing.rounds and settled):
            return raced


def _calls(course: Course, path: Path, stack: contextlib.ExitStack) -> list[Call]:
    """Load a graph and run it once at every batch size."""
    runner = registry.backends.load("onnxruntime").open(
        Artifact(path, course.signature, path.stem),
        device=course.device,
        providers=course.providers,
    )
    stack.callback(runner.close)
    calls = [runner.prepare(feeds) for feeds in course.feeds]
    for call in calls:
        call()
    return calls


def _take_round(
    course: Course,
    runners: Sequence[Sequence[Call]],
    order: random.Random,
    times: Sequence[list[list[float]]],
) -> None:
    """Let all run at every batch size, and note the geometric mean of each one's times.

    The time of a turn is its lower quartile: other jobs only ever lengthen a call.
    """
    total = [0.0] * len(runners)
    for size in range(len(course.feeds)):
        for place in order.sample(range(len(runners)), len(runners)):
            slot = take_slot(runners[place][size], course.timing.slot)
            total[place] += math.log(_lower_quartile(_samples(slot, course.device)))
    for rounds, logs in zip(times, total, strict=True):
        rounds.append([math.exp(logs / len(course.feeds))])


def _samples(slot: Slot, device: str) -> Sequence[int]:
    samples = slot.cpu if device == "cpu" else slot.wall
    return [max(1, sample) for sample in samples]


def _lower_quartile(samples: Sequence[int]) -> float:
    return float(sorted(samples)[len(samples) // 4])
