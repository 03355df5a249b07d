"""Latency of an entry: eager and the exported files take turns in one process on one thread."""

from __future__ import annotations

import os
import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import torch

from _flows.judge import drawn, feeds_of, session
from _flows.places import Place, made
from toolkit.capture.module import reference_module
from toolkit.core.clock import Slot, take_slot, warm_up
from toolkit.core.statistics import SMALLEST_EFFECT, compare_rounds, judge

BATCHES = (64, 1)
FEWEST_ROUNDS = 4
# Where calls are so long that slots overrun this often, rounds are cut, down to the fewest.
PATIENCE = 3.0

Calls = dict[str, Callable[[], object]]


def race(place: Place, files: Mapping[str, str], rounds: int, slot: float) -> list[dict[str, Any]]:
    """Time one entry at every batch.

    Arguments:
        place: The entry.
        files: Peer to its `.onnx` file.
        rounds: Rounds of one slot each, in random order.
        slot: Seconds of a slot.

    Returns:
        Per batch: medians in milliseconds, ratios with 95 % intervals (2 is twice as fast), the
        noise band of the plain file against itself, and the median of every slot, round by round.
    """
    model, entry = made(place)
    module = reference_module(model, entry).eval()
    rows = []
    for batch in BATCHES:
        inputs = drawn(entry, batch)
        calls: Calls = {"eager": partial(module, *inputs.values())}
        for name, file in files.items():
            calls[name] = _session_call(file, inputs)
        if "plain" in files:
            calls["plain A/A"] = _session_call(files["plain"], inputs)
        with torch.no_grad():
            rows.append({"batch": batch, **_told(_take_turns(calls, rounds, slot))})
    return rows


def _session_call(file: str, inputs: dict[str, torch.Tensor]) -> Callable[[], object]:
    opened = session(file)
    return partial(opened.run, None, feeds_of(opened, inputs))


def _take_turns(calls: Calls, rounds: int, slot: float) -> dict[str, list[Slot]]:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-1:])
    for call in calls.values():
        warm_up(call)
    slots: dict[str, list[Slot]] = {name: [] for name in calls}
    limit = time.monotonic() + PATIENCE * rounds * slot * len(calls)
    order = random.Random(0)
    for done in range(rounds):
        if done >= FEWEST_ROUNDS and time.monotonic() > limit:
            break
        for name in order.sample(list(calls), len(calls)):
            slots[name].append(take_slot(calls[name], slot))
    return slots


def _told(slots: dict[str, list[Slot]]) -> dict[str, Any]:
    walls = {name: [slot.wall for slot in found] for name, found in slots.items()}
    medians = {name: [statistics.median(wall) for wall in found] for name, found in walls.items()}
    row: dict[str, Any] = {
        "ms": {name: statistics.median(found) / 1e6 for name, found in medians.items()},
        "slot_medians_ns": medians,
        "calls": {name: [len(wall) for wall in found] for name, found in walls.items()},
        "over_eager": {
            name: asdict(compare_rounds(walls["eager"], walls[name]))
            for name in ("ours", "plain")
            if name in walls
        },
    }
    if {"ours", "plain"} <= walls.keys():
        band = compare_rounds(walls["plain"], walls["plain A/A"]).band
        ratio = compare_rounds(walls["plain"], walls["ours"])
        row["over_plain"] = asdict(ratio)
        row["noise_band"] = band
        row["verdict"] = judge(ratio, band)
        row["slower_than_plain"] = ratio.value * (1 + max(SMALLEST_EFFECT, band)) < 1
    return row
