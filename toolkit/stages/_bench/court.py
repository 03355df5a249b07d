"""The court: contestants take turns in interleaved rounds, one of them twice for the noise band."""

from __future__ import annotations

import contextlib
import os
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toolkit.core import statistics
from toolkit.core.clock import Slot, WarmUp
from toolkit.core.errors import ToolkitError
from toolkit.stages._bench.contestant import Contestant, Worker

WARM_UP = 1.0
FEWEST_ROUNDS = 4
# A round may take this many times its slots before the number of rounds is cut: slow calls.
PATIENCE = 3.0


@dataclass(slots=True, eq=False)
class Trial:
    """One contestant's measurements.

    Arguments:
        contestant: Who it is.
        cold_start_ns: From the start of its process to its first result.
        settings: What its runner says may change speed or answers.
        warm_up: How its warm-up went.
        slots: One per round.
        peak_memory_bytes: Largest resident size.
        lost: Why it is no longer in the race; empty where it finished.
    """

    contestant: Contestant
    cold_start_ns: int = 0
    settings: dict[str, Any] = field(default_factory=dict)
    warm_up: WarmUp = field(default_factory=lambda: WarmUp(0, 0, steady=False))
    slots: list[Slot] = field(default_factory=list)
    peak_memory_bytes: int = 0
    lost: str = ""

    @property
    def walls(self) -> list[tuple[int, ...]]:
        """Wall-clock nanoseconds per round."""
        return [slot.wall for slot in self.slots]

    @property
    def samples(self) -> list[int]:
        """Wall-clock nanoseconds of all rounds."""
        return [sample for slot in self.slots for sample in slot.wall]


@dataclass(frozen=True, slots=True)
class Hearing:
    """What the court heard.

    Arguments:
        trials: In the order given; the first that was not lost is the baseline.
        twin: The baseline once more, in a process of its own; `None` where there is no baseline.
    """

    trials: list[Trial]
    twin: Trial | None

    @property
    def baseline(self) -> Trial | None:
        """The first contestant that finished."""
        return next((trial for trial in self.trials if not trial.lost), None)

    @property
    def noise_band(self) -> float | None:
        """Noise band of the A/A pair as a fraction; `None` where the twin was lost."""
        baseline = self.baseline
        if baseline is None or self.twin is None or self.twin.lost:
            return None
        if self.twin.contestant != baseline.contestant:
            return None
        return statistics.compare_rounds(baseline.walls, self.twin.walls).band

    def verdict(self, trial: Trial) -> tuple[statistics.Ratio | None, statistics.Verdict]:
        """Return a contestant's ratio against the baseline, and what may be said of it."""
        baseline, band = self.baseline, self.noise_band
        if baseline is None or trial.lost:
            return None, "undecided"
        ratio = statistics.compare_rounds(baseline.walls, trial.walls)
        return ratio, "undecided" if band is None else statistics.judge(ratio, band)


def hold(contestants: Sequence[Contestant], *, rounds: int, slot: float, seed: int = 0) -> Hearing:
    """Time contestants against each other; one that fails is lost, and the others go on.

    Every contestant is one process on the same core; per round each takes a slot, in random
    order. The wall clock is bounded by `rounds × slot × contestants`; where a call is so long that
    its slots overrun that threefold, rounds are cut, down to four.

    Arguments:
        contestants: The baseline first.
        rounds: Rounds to hold.
        slot: Seconds of one slot.
        seed: Seed of the order.
    """
    with tempfile.TemporaryDirectory(prefix="toolkit-") as folder, contextlib.ExitStack() as stack:
        seats = _Seats(Path(folder), stack)
        trials = [seats.take(contestant) for contestant in contestants]
        baseline = next((trial for trial in trials if not trial.lost), None)
        twin = seats.take(baseline.contestant) if baseline else None
        running = [trial for trial in (*trials, twin) if trial is not None and not trial.lost]
        _hold_rounds(running, seats, rounds, slot, random.Random(seed))
    return Hearing(trials, twin)


class _Seats:
    """The open workers of one hearing."""

    def __init__(self, scratch: Path, stack: contextlib.ExitStack) -> None:
        self._scratch, self._stack = scratch, stack
        self._workers: dict[Trial, Worker] = {}

    def take(self, contestant: Contestant) -> Trial:
        trial = Trial(contestant)
        worker = Worker(contestant, self._scratch, _cores(contestant.threads))
        self._stack.enter_context(worker)
        self._workers[trial] = worker
        with _losing(trial, worker):
            trial.cold_start_ns, trial.settings = worker.opened()
            trial.warm_up = worker.warm_up(WARM_UP)
        return trial

    def turn(self, trial: Trial, seconds: float) -> None:
        worker = self._workers[trial]
        with _losing(trial, worker):
            trial.slots.append(worker.slot(seconds))


@contextlib.contextmanager
def _losing(trial: Trial, worker: Worker) -> Iterator[None]:
    try:
        yield
    except ToolkitError as error:
        trial.lost = error.what
        worker.close()
    trial.peak_memory_bytes = max(trial.peak_memory_bytes, worker.peak_memory_bytes)


def _hold_rounds(
    running: list[Trial], seats: _Seats, rounds: int, slot: float, order: random.Random
) -> None:
    limit = time.monotonic() + PATIENCE * rounds * slot * len(running)
    for done in range(rounds):
        if done >= FEWEST_ROUNDS and time.monotonic() > limit:
            return
        order.shuffle(running)
        for trial in running:
            seats.turn(trial, slot)
        running[:] = [trial for trial in running if not trial.lost]


def _cores(threads: int) -> list[int]:
    """Return the last cores this process may use: one per thread, the same for every contestant."""
    if not hasattr(os, "sched_getaffinity"):
        return []
    return sorted(os.sched_getaffinity(0))[-threads:]
