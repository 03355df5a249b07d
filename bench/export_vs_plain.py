"""Time the toolkit against plain `torch.onnx.export`: `python bench/export_vs_plain.py [RECIPE …]`.

For every entry of each recipe:
- export: seconds of CPU of the winning strategy, verification apart, over those of the plain call
  (smaller is better); both in turns in one process, the first turn of each dropped;
- latency: how many times faster the final `fp32.onnx` is than the plain file in ONNX Runtime, in
  processes of their own, interleaved in rounds, with an A/A noise band (larger is better).

Where the plain call knows no ONNX operator for linear algebra on weights (Glow's 1×1 convolutions),
its contestant is the same call with those results computed beforehand, and the row says so. Where
it exports nothing even so, the row holds its reason and no comparison.

A run under `exported/` gives weights and graphs; where there is none, one is made with the initial
weights, which change no shape and no operator. Every single call is kept in a `.samples.json.gz`
beside the results, which is too large to commit; the results hold the median of every slot.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import statistics
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from _plain import export_plain

from toolkit.capture.capture import capture
from toolkit.capture.dynamo import Form
from toolkit.core import machine
from toolkit.core.entry import Entry
from toolkit.core.errors import ToolkitError
from toolkit.core.files import write_bytes, write_json
from toolkit.core.folder import EXPORTED, RunFolder
from toolkit.core.recipe import Recipe, load_recipe, recipe_names
from toolkit.core.statistics import summarise
from toolkit.stages._bench.contestant import Contestant
from toolkit.stages._bench.court import Hearing, hold
from toolkit.stages._bench.inputs import save_inputs, signature_of
from toolkit.stages._entries import entries_of
from toolkit.stages._model import load_model
from toolkit.stages.pipeline import run_pipeline

NO_OPERATOR = re.compile(r"No ONNX function found for <OpOverload\(op='([^']+)'")
OUT = Path(__file__).parent / "results" / "export_vs_plain.json"


def main() -> int:
    """Measure, print and save; return the exit code."""
    options = _options()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    samples: list[dict[str, Any]] = []
    try:
        for name in options.recipes:
            with tempfile.TemporaryDirectory(prefix="toolkit-") as scratch:
                _measure_recipe(name, options, Path(scratch), rows, samples)
    except ToolkitError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    settings = {"rounds": options.rounds, "slot": options.slot, "repeats": options.repeats}
    write_json(options.out, {"machine": machine.describe(), "settings": settings, "rows": rows})
    raw = json.dumps({"rows": samples}, separators=(",", ":")).encode()
    write_bytes(options.out.with_suffix(".samples.json.gz"), gzip.compress(raw, mtime=0))
    print(f"saved {options.out}")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("recipes", nargs="*", default=recipe_names())
    parser.add_argument("--batch", type=_numbers, default=[1, 64], help="batches: 1,64")
    parser.add_argument("--rounds", type=int, default=16)
    parser.add_argument("--slot", type=float, default=0.15, help="seconds of one turn")
    parser.add_argument("--repeats", type=int, default=3, help="timed exports of each entry")
    parser.add_argument("--runs", type=Path, default=EXPORTED, help="folder of the runs")
    parser.add_argument("--out", type=Path, default=OUT)
    return parser.parse_args()


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _measure_recipe(
    name: str,
    options: argparse.Namespace,
    scratch: Path,
    rows: list[dict[str, Any]],
    samples: list[dict[str, Any]],
) -> None:
    recipe, folder, weights = _run_of(name, options.runs, scratch)
    model = load_model(recipe, folder)
    finished = folder.stage("optimize")["entries"]
    for entry in (entry for entry in entries_of(model, recipe) if entry.name in finished):
        place = {"recipe": name, "entry": entry.name, "weights": weights}
        plain = scratch / f"{entry.name}.onnx"
        refused = _refusal(model, entry, plain, recipe)
        precompute = bool(refused)
        row: dict[str, Any] = {**place, "plain_refused": refused, "export": None, "latency": []}
        if precompute and _refusal(model, entry, plain, recipe, precompute=True):
            rows.append(row)
            _print(row)
            continue
        row["export"] = _export_times(model, entry, plain, recipe, options.repeats, precompute)
        for batch in options.batch:
            hearing = _hearing(folder, entry.name, batch, plain, scratch, options)
            medians = _slot_medians(hearing)
            row["latency"].append({"batch": batch, **_latency(hearing), "slot_medians_ns": medians})
            samples += _samples(hearing, {**place, "batch": batch})
        _print(row)
        rows.append(row)


def _run_of(name: str, runs: Path, scratch: Path) -> tuple[Recipe, RunFolder, str]:
    """Return a finished run with its recipe, or make one with the initial weights."""
    trained = RunFolder(runs / name)
    if trained.has_stage("optimize"):
        return load_recipe(trained.path / "recipe.toml"), trained, "trained"
    recipe = load_recipe(name, settings=["train.epochs=0", "optimize.variants=['fp32']"])
    folder = RunFolder(scratch / name)
    run_pipeline(recipe, folder, last="optimize")
    return recipe, folder, "initial"


def _refusal(
    model: torch.nn.Module, entry: Entry, path: Path, recipe: Recipe, *, precompute: bool = False
) -> str:
    """Return why the plain call fails on the entry; empty where it does not."""
    try:
        export_plain(model, entry, path, opset=recipe.export.opset, precompute=precompute)
    except Exception as error:  # noqa: BLE001  (whatever it fails with is its answer)
        text = str(error).strip() or type(error).__name__
        known = NO_OPERATOR.search(text)
        return f"no ONNX operator for {known[1]}" if known else text.partition("\n")[0][:200]
    return ""


def _export_times(
    model: torch.nn.Module,
    entry: Entry,
    path: Path,
    recipe: Recipe,
    repeats: int,
    precompute: bool,  # noqa: FBT001
) -> dict[str, Any]:
    """Return the seconds of CPU of both, in turns, the first turn of each dropped."""
    opset, plain, ours = recipe.export.opset, list[float](), list[float]()
    mine = path.with_name(f"{entry.name}-toolkit.onnx")
    for _ in range(repeats + 1):
        start = time.process_time()
        export_plain(model, entry, path, opset=opset, precompute=precompute)
        plain.append(time.process_time() - start)
        start = time.process_time()
        capture(model, entry, mine, form=Form(opset), strategies=recipe.export.strategies)
        ours.append(time.process_time() - start)
    ratio = statistics.median(ours[1:]) / statistics.median(plain[1:])
    return {"plain_s": plain[1:], "toolkit_s": ours[1:], "ratio": ratio}


def _hearing(
    folder: RunFolder,
    entry: str,
    batch: int,
    plain: Path,
    scratch: Path,
    options: argparse.Namespace,
) -> Hearing:
    feeds = save_inputs(folder, entry, batch, scratch, seed=0)
    fp32 = folder.stage("optimize")["entries"][entry]["variants"]["fp32"]["file"]
    files = {"plain": plain, "fp32": folder.path / fp32}
    contestants = [
        Contestant(
            backend="onnxruntime",
            variant=variant,
            path=str(path),
            signature=signature_of(folder, entry).as_dict(),
            feeds=str(feeds),
        )
        for variant, path in files.items()
    ]
    return hold(contestants, rounds=options.rounds, slot=options.slot)


def _latency(hearing: Hearing) -> dict[str, Any]:
    plain, ours = hearing.trials
    if plain.lost or ours.lost:
        return {"verdict": "undecided", "reason": plain.lost or ours.lost}
    ratio, verdict = hearing.verdict(ours)
    medians = [summarise(trial.samples).p50 for trial in (plain, ours)]
    return {
        "plain_ms": medians[0].value / 1e6 if medians[0] else None,
        "toolkit_ms": medians[1].value / 1e6 if medians[1] else None,
        "ratio": ratio.value if ratio else None,
        "interval": [ratio.low, ratio.high] if ratio else None,
        "noise_band": hearing.noise_band,
        "verdict": verdict,
    }


def _trials(hearing: Hearing) -> dict[str, Any]:
    trials = [*hearing.trials, *([hearing.twin] if hearing.twin else [])]
    return dict(zip(["plain", "toolkit", "plain A/A"], trials, strict=False))


def _slot_medians(hearing: Hearing) -> dict[str, list[float]]:
    """Return the median call of every slot, round by round: what the interval is drawn from."""
    return {
        name: [statistics.median(slot.wall) for slot in trial.slots]
        for name, trial in _trials(hearing).items()
    }


def _samples(hearing: Hearing, place: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {**place, "contestant": name, "slots": [asdict(slot) for slot in trial.slots]}
        for name, trial in _trials(hearing).items()
    ]


def _print(row: dict[str, Any]) -> None:
    times = row["export"]
    head = f"{row['recipe']:<10}{row['entry']:<10}"
    if times is None:
        print(f"{head}plain: {row['plain_refused']}", flush=True)
        return
    if row["plain_refused"]:
        print(f"{head}plain: {row['plain_refused']}; so with it computed beforehand", flush=True)
    print(
        f"{head}export {statistics.median(times['plain_s']):6.2f} s plain "
        f"{statistics.median(times['toolkit_s']):6.2f} s toolkit, ratio {times['ratio']:.2f}",
        flush=True,
    )
    for item in row["latency"]:
        print(f"{'':<20}{_sentence(item)}", flush=True)


def _sentence(item: dict[str, Any]) -> str:
    if "reason" in item:
        return f"batch {item['batch']:>3}: {item['reason']}"
    low, high = item["interval"]
    return (
        f"batch {item['batch']:>3}: {item['plain_ms']:8.4f} ms plain {item['toolkit_ms']:8.4f} ms "
        f"toolkit, {item['ratio']:.3f} x [{low:.3f}, {high:.3f}], "
        f"A/A band {100 * (item['noise_band'] or 0):.1f} %: {item['verdict']}"
    )


if __name__ == "__main__":
    sys.exit(main())
