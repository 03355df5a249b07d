"""Time every run's entries on a CUDA machine: `python bench/gpu.py [RUN …]`.

Contestants: torch eager and torch.compile, ONNX Runtime's CUDA and TensorRT providers, TensorRT and
TensorRT-RTX engines built for the GPU here; each plainly enqueued and as a CUDA graph. All of them
run on one stream in one process, in rounds of random order; device events give the time of each
call, and a wall clock around call and synchronisation gives its latency. ONNX Runtime waits for the
device after it replays a CUDA graph of its own, so there the latencies are what compares. TF32 is
off everywhere, so that fp32 means one thing. Every contestant's outputs are compared with eager's.

Without a CUDA device it prints what it skips and why, writes nothing and exits 0.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

# Before NVIDIA's libraries are loaded: ONNX Runtime's TensorRT provider has no other switch.
os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")

import torch
from _gpu_contestants import Call, Opened, Subject, absences, contestants, failures

from toolkit.core import machine
from toolkit.core.errors import ToolkitError, UsageError
from toolkit.core.files import write_json
from toolkit.core.folder import EXPORTED, RunFolder
from toolkit.core.recipe import Recipe, load_recipe
from toolkit.core.signature import Signature
from toolkit.core.statistics import compare_rounds, judge, summarise
from toolkit.stages._bench.inputs import inputs_for
from toolkit.stages._bench.reference import reference

OUT = Path(__file__).parent / "results" / "gpu.json"
MOST_CALLS = 2000
TWIN = "eager again"


def main() -> int:
    """Measure, or say in three parts why not; return the exit code."""
    try:
        _run()
    except ToolkitError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def _run() -> None:
    options = _options()
    skipped = [{"what": name, "reason": reason} for name, reason in absences().items()]
    rows: list[dict[str, Any]] = []
    folders = _folders(options.runs, skipped)
    if torch.cuda.is_available():
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        for folder in folders:
            for entry, batch, subject in _subjects(folder, options.batch, skipped):
                place = {"run": folder.name, "entry": entry, "batch": batch}
                rows += [{**place, **row} for row in _measure(subject, place, options, skipped)]
                saved = {"machine": _machine(), "rows": rows, "skipped": skipped}
                write_json(options.out, saved)
    _print(rows, skipped)
    if rows:
        print(f"saved {options.out}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "runs", nargs="*", help="run folders or names; all under exported/ by default"
    )
    parser.add_argument("--batch", type=_numbers, default=[1, 16, 64], help="batches: 1,16,64")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--slot", type=float, default=0.15, help="seconds of one turn")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=OUT)
    return parser.parse_args()


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _folders(runs: Sequence[str], skipped: list[dict[str, Any]]) -> list[RunFolder]:
    names = runs or sorted(str(path.parent) for path in EXPORTED.glob("*/manifest.json"))
    if not names:
        skipped.append({"what": "all runs", "reason": f"{EXPORTED}/ is empty: toolkit run glow"})
    folders = [RunFolder.find(name) for name in names]
    exported = [folder for folder in folders if folder.has_stage("export")]
    skipped += [
        {"what": folder.name, "reason": "it holds no export"}
        for folder in folders
        if folder not in exported
    ]
    return exported


def _subjects(
    folder: RunFolder, batches: Sequence[int], skipped: list[dict[str, Any]]
) -> Iterator[tuple[str, int, Subject]]:
    recipe = load_recipe(folder.path / "recipe.toml")
    for entry, record in folder.stage("export")["entries"].items():
        signature = Signature.from_dict(record["signature"])
        for batch in batches:
            golden = folder.entry(entry) / "golden.safetensors"
            try:
                feeds = inputs_for(signature, golden, batch=batch, seed=recipe.seed)
            except UsageError as error:
                skipped.append({"what": f"{folder.name} {entry} {batch}", "reason": error.what})
                continue
            yield entry, batch, _subject(recipe, folder, entry, signature, feeds, batch)


def _subject(
    recipe: Recipe,
    folder: RunFolder,
    entry: str,
    signature: Signature,
    feeds: dict[str, Any],
    batch: int,
) -> Subject:
    ranges = {name: (sizes[0], sizes[1], sizes[2]) for name, sizes in signature.ranges.items()}
    table = recipe.model_dump(mode="json")
    graphs, sources = _graphs(folder, entry)
    return Subject(
        signature=signature,
        module=lambda: reference(table, str(folder.path), entry),
        graphs=graphs,
        sources=sources,
        feeds=feeds,
        shapes={**ranges, "batch": (1, batch, batch)},
        stream=torch.cuda.Stream(),
    )


def _graphs(folder: RunFolder, entry: str) -> tuple[dict[str, Path], dict[str, Path]]:
    """Return what ONNX Runtime runs and what engines are built from, by precision."""
    exported, fp32, fp16 = (
        folder.entry(entry) / f"{name}.onnx" for name in ("exported", "fp32", "fp16")
    )
    half = {"fp16": fp16} if fp16.exists() else {}
    graphs = {"fp32": fp32 if fp32.exists() else exported, **half}
    return graphs, {"fp32": exported, **half}


def _measure(
    subject: Subject,
    place: dict[str, Any],
    options: argparse.Namespace,
    skipped: list[dict[str, Any]],
) -> list[dict[str, Any]]:
    """Open all contestants, take the rounds and return one row for each."""
    opened: dict[str, Opened] = {}
    answers: dict[str, float | None] = {}
    with ExitStack() as stack, torch.cuda.stream(subject.stream):
        makers = dict(contestants(subject))
        for label, make in {**makers, TWIN: makers["eager"]}.items():
            try:
                contestant = make()
                stack.callback(contestant.close)
                contestant.call()
                subject.stream.synchronize()
                answers[label] = _difference(opened.get("eager", contestant), contestant)
            except failures() as error:
                what = " ".join(str(value) for value in place.values())
                skipped.append({"what": f"{what} {label}", "reason": str(error)})
            else:
                opened[label] = contestant
        if "eager" not in opened:
            return []
        calls = {label: contestant.call for label, contestant in opened.items()}
        try:
            device, latency = _rounds(calls, options)
        except failures() as error:
            what = " ".join(str(value) for value in place.values())
            skipped.append({"what": what, "reason": f"stopped while it was timed: {error}"})
            return []
    return _rows(opened, device, latency, answers, place["batch"], options.seed)


def _rounds(
    calls: dict[str, Call], options: argparse.Namespace
) -> tuple[dict[str, list[list[float]]], dict[str, list[float]]]:
    """Return per contestant the device milliseconds of every round, and all its latencies."""
    order = random.Random(options.seed)
    counts = {label: _calls_in(call, options.slot) for label, call in calls.items()}
    device: dict[str, list[list[float]]] = {label: [] for label in calls}
    latency: dict[str, list[float]] = {label: [] for label in calls}
    for _ in range(options.rounds):
        for label in order.sample(sorted(calls), len(calls)):
            device[label].append(_device_slot(calls[label], counts[label]))
            latency[label] += _latency_slot(calls[label], max(3, counts[label] // 4))
    return device, latency


def _calls_in(call: Call, seconds: float) -> int:
    """Warm up for a slot and return how many calls fill one."""
    begin = time.perf_counter()
    done = 0
    while time.perf_counter() - begin < seconds or done < 3:
        call()
        torch.cuda.synchronize()
        done += 1
    return min(max(3, done), MOST_CALLS)


def _device_slot(call: Call, count: int) -> list[float]:
    events = [torch.cuda.Event(enable_timing=True) for _ in range(count + 2)]
    for event in events:
        event.record()
        call()
    torch.cuda.synchronize()
    # The first interval pays for what the contestant before evicted, and is dropped.
    return [start.elapsed_time(end) for start, end in pairwise(events[1:])]


def _latency_slot(call: Call, count: int) -> list[float]:
    samples = []
    for _ in range(count + 1):
        begin = time.perf_counter_ns()
        call()
        torch.cuda.synchronize()
        samples.append((time.perf_counter_ns() - begin) / 1e6)
    return samples[1:]


def _difference(reference: Opened, contestant: Opened) -> float | None:
    """Return the largest absolute difference from eager's outputs.

    `None` says that the answer is wrong: integers differ, or a difference is not finite.
    """
    largest = 0.0
    ours = contestant.outputs()
    for name, expected in reference.outputs().items():
        found, wanted = ours[name].double(), expected.double()
        # An infinite density is an answer, too, and differs from itself by NaN.
        difference = float(torch.where(found == wanted, 0.0, (found - wanted).abs()).max())
        if not math.isfinite(difference) or (difference and not expected.is_floating_point()):
            return None
        largest = max(largest, difference)
    return largest


def _rows(
    opened: dict[str, Opened],
    device: dict[str, list[list[float]]],
    latency: dict[str, list[float]],
    answers: dict[str, float | None],
    batch: int,
    seed: int,
) -> list[dict[str, Any]]:
    has_twin = TWIN in device
    band = compare_rounds(device["eager"], device[TWIN], seed=seed).band if has_twin else None
    rows = []
    for label, contestant in opened.items():
        ratio = compare_rounds(device["eager"], device[label], seed=seed)
        summary = summarise([sample for slot in device[label] for sample in slot])
        quantiles = {"p50": summary.p50, "p90": summary.p90, "p99": summary.p99}
        rows.append(
            {
                "contestant": label,
                "backend": contestant.name,
                "precision": contestant.precision,
                "cuda_graph": contestant.graph,
                "count": summary.count,
                **{f"device_{q}_ms": found and found.value for q, found in quantiles.items()},
                "latency_p50_ms": statistics.median(latency[label]),
                "throughput_per_s": 1e3 * batch / summary.p50.value if summary.p50 else None,
                "baseline": "eager",
                "ratio": ratio.value,
                "interval": [ratio.low, ratio.high],
                "noise_band": band,
                "verdict": judge(ratio, band) if band is not None else "undecided",
                "max_abs_difference": answers[label],
            }
        )
    return rows


def _machine() -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(0)
    return {
        **machine.describe(),
        "gpu": properties.name,
        "gpu_memory_bytes": properties.total_memory,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "tf32": False,
    }


def _print(rows: list[dict[str, Any]], skipped: list[dict[str, Any]]) -> None:
    for row in rows:
        place = f"{row['run']} {row['entry']} batch {row['batch']}"
        print(
            f"{place:32} {row['contestant']:36} {row['device_p50_ms']:9.4f} ms"
            f" {row['ratio']:7.2f}x {row['verdict']}"
        )
    for item in skipped:
        print(f"skipped {item['what']}: {item['reason']}")


if __name__ == "__main__":
    sys.exit(main())
