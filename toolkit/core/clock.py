"""The one clock: prepared calls are warmed up until steady and timed one by one."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

Call = Callable[[], object]

WINDOW_NS = 20_000_000
WINDOW_CALLS = 3
STEADY_WINDOWS = 3
STEADY_CHANGE = 0.05


@dataclass(frozen=True, slots=True)
class WarmUp:
    """How a warm-up went.

    Arguments:
        calls: How many calls it took.
        nanoseconds: How long it took.
        steady: Whether the medians had stopped moving when it ended.
    """

    calls: int
    nanoseconds: int
    steady: bool


@dataclass(frozen=True, slots=True)
class Slot:
    """Raw samples of one uninterrupted turn.

    Arguments:
        wall: Wall-clock nanoseconds of every kept call, in order.
        cpu: CPU nanoseconds that the whole process spent during each of them.
    """

    wall: tuple[int, ...]
    cpu: tuple[int, ...]


def time_call(call: Call) -> tuple[int, int]:
    """Return wall-clock and process CPU nanoseconds of one call."""
    cpu = time.process_time_ns()
    wall = time.perf_counter_ns()
    call()
    wall = time.perf_counter_ns() - wall
    return wall, time.process_time_ns() - cpu


def warm_up(call: Call, *, limit: float = 1.0) -> WarmUp:
    """Call until the medians of successive windows stop moving.

    A window is at least 20 ms and three calls; three successive medians within 5 % are steady.

    Arguments:
        call: The prepared call.
        limit: Give up after this many seconds; at least one call is made.
    """
    start = time.perf_counter_ns()
    medians: list[float] = []
    calls, window, opened = 0, list[int](), start
    while True:
        window.append(time_call(call)[0])
        calls += 1
        now = time.perf_counter_ns()
        if now - opened >= WINDOW_NS and len(window) >= WINDOW_CALLS:
            medians.append(statistics.median(window))
            window, opened = [], now
            if _steady(medians[-STEADY_WINDOWS:]):
                return WarmUp(calls, now - start, steady=True)
        if now - start >= limit * 1e9:
            return WarmUp(calls, now - start, steady=False)


def take_slot(call: Call, seconds: float) -> Slot:
    """Time calls, one by one, for at least `seconds`.

    The first call is dropped: it pays for caches that another process has emptied. A call that
    fills the slot alone is kept, since that cost is small against it.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        return _take_slot(call, int(seconds * 1e9))
    finally:
        if collecting:
            gc.enable()


def _take_slot(call: Call, nanoseconds: int) -> Slot:
    start = time.perf_counter_ns()
    samples = [time_call(call)]
    if samples[0][0] < nanoseconds:
        samples.clear()
    while not samples or time.perf_counter_ns() - start < nanoseconds:
        samples.append(time_call(call))
    wall, cpu = zip(*samples, strict=True)
    return Slot(wall, cpu)


def _steady(medians: list[float]) -> bool:
    if len(medians) < STEADY_WINDOWS:
        return False
    return max(medians) - min(medians) <= STEADY_CHANGE * min(medians)
