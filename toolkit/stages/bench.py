"""Time every variant on every backend against eager, interleaved, with a noise band.

For each entry and batch the wall clock is `rounds × slot` seconds for each contestant and for the
twin of the baseline, plus what opening and warming up take: about four seconds where torch is
imported, one for ONNX Runtime, and the compilation itself for torch.compile. The number of rounds
(`bench.rounds`) bounds it; calls so long that two of them overrun a slot cut the rounds.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from toolkit.backends._tensorrt_build import device_capability
from toolkit.core import machine, registry
from toolkit.core.errors import MissingError, UsageError
from toolkit.core.files import write_json, write_text
from toolkit.core.folder import RunFolder
from toolkit.core.outcome import Outcome
from toolkit.core.protocols import Progress, silent
from toolkit.core.recipe import Recipe, load_recipe, parse_recipe
from toolkit.stages._bench.contestant import Contestant
from toolkit.stages._bench.court import hold
from toolkit.stages._bench.inputs import save_inputs, signature_of
from toolkit.stages._bench.measurements import lost_of, rows_of, samples_of
from toolkit.stages._open import require_backend

AFTER = ("train", "export", "optimize", "build")
SECTIONS = ("model", "data", "seed", "device", "providers", "bench")
SOURCES = (
    "core",
    "nn",
    "models",
    "adapters",
    "backends",
    "capture/module.py",
    "runtime/feeds.py",
    "runtime/providers.py",
    "runtime/strict.py",
    "stages/_bench",
    "stages/_entries.py",
    "stages/_model.py",
    "stages/_open.py",
)
PACKAGES = (
    "numpy",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "scipy",
    "tensorrt",
    "tensorrt-rtx",
    "torch",
)
MEASURES = True

RESULTS, SAMPLES = "bench/results.json", "bench/samples.json"
SCENARIO = "single-stream"


def run(recipe: Recipe, folder: RunFolder, *, progress: Progress = silent) -> Outcome:
    """Hold one hearing per entry and batch; the first contestant that runs is the baseline.

    Arguments:
        recipe: Its `[bench]` says what is timed against what.
        folder: The run folder, after export.
        progress: Called before each hearing with its entry and batch.

    Raises:
        UsageError: The scenario, an entry or a backend is unknown, or there is nothing exported.
    """
    if recipe.bench.scenario != SCENARIO:
        raise UsageError(
            f"no scenario is called {recipe.bench.scenario!r}",
            where="[bench] scenario",
            next_step=f"known: {SCENARIO}",
        )
    require_backend(recipe, recipe.bench.backends)
    usable, skipped = _usable(recipe)
    skipped += _for_other_gpus(recipe, folder, usable)
    rows: list[dict[str, Any]] = []
    samples: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="toolkit-") as scratch:
        for entry, batch in _cases(recipe, folder):
            try:
                feeds = save_inputs(folder, entry, batch, Path(scratch), seed=recipe.seed)
            except UsageError as error:
                skipped.append({"backend": "all", "entry": entry, "reason": error.what})
                continue
            names = _taking_part(usable, recipe, folder, entry, batch)
            contestants = list(_contestants(recipe, folder, entry, feeds, names))
            progress(f"{entry}, batch {batch}")
            hearing = hold(
                contestants, rounds=recipe.bench.rounds, slot=recipe.bench.slot, seed=recipe.seed
            )
            rows += rows_of(hearing, entry, batch)
            samples += samples_of(hearing, entry, batch)
            skipped += lost_of(hearing, entry, batch)
    results = {"machine": machine.describe(), "rows": rows, "skipped": skipped}
    write_json(folder.path / RESULTS, results)
    write_text(folder.path / SAMPLES, json.dumps({"rows": samples}, separators=(",", ":")) + "\n")
    detail = {"files": [RESULTS, SAMPLES], "rows": len(rows), "skipped": skipped}
    if not rows:
        reasons = "; ".join(f"{item['backend']}: {item['reason']}" for item in skipped)
        why = reasons or "no entry was exported"
        return Outcome("failed", f"nothing could be timed: {why}", detail)
    return Outcome("ok", detail=detail)


def bench(
    folder: str | Path, *, backends: Sequence[str] = ("onnxruntime",), **settings: Any
) -> list[dict[str, Any]]:
    """Time a run folder; the Python form of `toolkit bench`.

    Arguments:
        folder: A run folder.
        backends: What runs the variants; `eager` and `compile` need the recipe's own model.
        settings: Keys of the recipe's `[bench]` section, such as `batches=[1, 16]`.

    Returns:
        The rows of `bench/results.json`.

    Raises:
        UsageError: There is no such run, or a setting is unknown.
        MissingError: None of the backends can run here.
    """
    from toolkit.stages._record import record_stage

    run_folder = RunFolder.find(folder)
    table = load_recipe(run_folder.path / "recipe.toml").model_dump(mode="json")
    table["bench"] |= {"backends": list(backends), **settings}
    recipe = parse_recipe(table, where="toolkit.bench(...)")
    with run_folder.locked():
        started = time.perf_counter()
        outcome = run(recipe, run_folder)
        if not outcome.ok:
            raise MissingError(
                outcome.reason, where=str(run_folder.path), next_step="choose other backends"
            )
        record_stage(run_folder, "bench", recipe, outcome, started=started)
    rows: list[dict[str, Any]] = json.loads((run_folder.path / RESULTS).read_text())["rows"]
    return rows


def _usable(recipe: Recipe) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the backends that can run here, eager first, and the reasons of the others."""
    usable, skipped = [], []
    for name in sorted(recipe.bench.backends, key=lambda name: name != "eager"):
        backend = registry.backends.load(name)
        reason = backend.absent(device=recipe.device, providers=recipe.providers)
        if reason:
            skipped.append({"backend": name, "reason": reason})
        else:
            usable.append(name)
    return usable, skipped


def _cases(recipe: Recipe, folder: RunFolder) -> Iterator[tuple[str, int]]:
    exported = folder.stage("export")["entries"]
    entries = recipe.bench.entries or [name for name in exported if "signature" in exported[name]]
    for entry in entries:
        if entry not in exported:
            raise UsageError(
                f"no entry is called {entry!r}",
                where="[bench] entries",
                next_step=registry.nearest(entry, list(exported)),
            )
        for batch in recipe.bench.batches:
            yield entry, batch


def _taking_part(
    usable: list[str], recipe: Recipe, folder: RunFolder, entry: str, batch: int
) -> list[str]:
    """Return the backends of one hearing.

    torch.compile takes half a minute for each entry and batch: it takes part at the first batch
    of its entries (`bench.compile_entries`, by default the first).
    """
    first = next(_cases(recipe, folder))
    named = recipe.bench.compile_entries or [first[0]]
    compiles = entry in named and batch == first[1]
    return [name for name in usable if name != "compile" or compiles]


def _contestants(
    recipe: Recipe, folder: RunFolder, entry: str, feeds: Path, backends: Sequence[str]
) -> Iterator[Contestant]:
    for name in backends:
        for variant, file in _variants(recipe, folder, entry, name):
            yield Contestant(
                backend=name,
                variant=variant,
                path=str(folder.path / file),
                signature=signature_of(folder, entry).as_dict(),
                feeds=str(feeds),
                module={
                    "target": "toolkit.stages._bench.reference:reference",
                    "arguments": {
                        "recipe": recipe.model_dump(mode="json"),
                        "folder": str(folder.path.resolve()),
                        "entry": entry,
                    },
                },
                threads=recipe.bench.threads,
                device=recipe.device,
                providers=tuple(recipe.providers),
            )


def _variants(recipe: Recipe, folder: RunFolder, entry: str, backend: str) -> list[tuple[str, str]]:
    """Return names and files that a backend runs: float32 always, others where they were kept."""
    formats = registry.backends.load(backend).formats
    exported: str = folder.stage("export")["entries"][entry]["file"]
    if "engine" in formats:
        here = device_capability(recipe.device)
        return [
            (f"{engine['precision']}-{engine['target']}", engine["file"])
            for engine in _engines(folder, backend)
            if engine["entry"] == entry and engine["target"] == here
        ]
    if "module" in formats:
        return [("fp32", exported)]
    if not folder.has_stage("optimize"):
        return [("exported", exported)]
    return [
        (name, variant["file"])
        for name, variant in sorted(
            folder.variants(entry).items(), key=lambda item: item[0] != "fp32"
        )
        if name == "fp32" or variant["kept"].get(backend, {}).get("kept", False)
    ]


def _engines(folder: RunFolder, backend: str) -> list[dict[str, Any]]:
    built = folder.stage("build")["engines"] if folder.has_stage("build") else []
    return [e for e in built if e["engine"] == backend and e["status"] == "ok"]


def _for_other_gpus(
    recipe: Recipe, folder: RunFolder, backends: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the reasons of the engines that the GPU here does not load."""
    here = device_capability(recipe.device)
    found = {
        (name, engine["target"])
        for name in backends
        for engine in _engines(folder, name)
        if engine["target"] != here
    }
    reason = "built for compute capability {}, the GPU here has {}"
    return [
        {"backend": name, "reason": reason.format(target, here)} for name, target in sorted(found)
    ]
