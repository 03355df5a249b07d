"""Time every variant on every backend, interleaved."""

from __future__ import annotations

import json
import math
from typing import Annotated, Any

import typer

from toolkit.cli._answer import Answer, table
from toolkit.cli._options import Device, Providers, Run, Seed, Settings


def command(
    run: Run,
    backend: Annotated[
        str, typer.Option("--backend", help="eager,compile,onnxruntime,…", metavar="NAMES")
    ] = "",
    entry: Annotated[
        list[str], typer.Option("--entry", help="Entry to time.", metavar="NAME")
    ] = [],
    batch: Annotated[str, typer.Option("--batch", help="Batch sizes: 1,16.", metavar="SIZES")] = "",
    threads: Annotated[
        int | None, typer.Option("--threads", help="Threads within an operator.", min=1)
    ] = None,
    scenario: Annotated[str, typer.Option("--scenario", help="single-stream", metavar="NAME")] = "",
    duration: Annotated[
        float | None,
        typer.Option("--duration", help="Seconds of timing per contestant.", metavar="S", min=0.1),
    ] = None,
    settings: Settings = [],
    seed: Seed = None,
    device: Device = "",
    providers: Providers = "",
) -> Answer:
    """Time every variant on every backend, interleaved."""
    from toolkit.cli._options import open_run, overrides, split
    from toolkit.cli._steps import run_one
    from toolkit.stages._bench.court import FEWEST_ROUNDS
    from toolkit.stages.pipeline import exit_code

    given = overrides(
        settings,
        seed=seed,
        device=device,
        providers=providers,
        bench__backends=split(backend),
        bench__entries=entry,
        bench__batches=numbers("--batch", batch),
        bench__threads=threads,
        bench__scenario=scenario,
    )
    recipe, folder = open_run(run, given)
    if duration is not None:
        rounds = max(FEWEST_ROUNDS, math.ceil(duration / recipe.bench.slot))
        recipe, folder = open_run(run, [*given, f"bench.rounds={rounds}"])
    step = run_one("bench", recipe, folder)
    results = json.loads((folder.path / "bench" / "results.json").read_text())
    data = {**step.outcome.as_dict(), **results}
    return Answer(data, lambda: _text(results), exit_code([step]))


def numbers(option: str, text: str) -> list[int]:
    """Return the whole numbers of a comma-separated option.

    Raises:
        UsageError: One is not a whole number above zero.
    """
    from toolkit.cli._options import split
    from toolkit.core.errors import UsageError

    words = split(text)
    if not all(word.isdigit() and int(word) for word in words):
        raise UsageError(f"cannot read {option} {text}", next_step=f"write it like {option} 1,16")
    return [int(word) for word in words]


def _text(results: dict[str, Any]) -> str:
    headers = [
        "entry",
        "variant",
        "backend",
        "batch",
        "p50 ms",
        "p90 ms",
        "p99 ms",
        "per second",
        "ratio",
        "interval",
        "verdict",
    ]
    rows = [
        [
            row["entry"],
            row["variant"],
            row["backend"],
            row["batch"],
            row["p50_ms"],
            row["p90_ms"],
            row["p99_ms"],
            row["throughput_per_s"],
            row["ratio"],
            interval(row["interval"]),
            row["verdict"],
        ]
        for row in results["rows"]
    ]
    text = table(headers, rows)
    skipped = [
        [item["backend"], item.get("entry"), item.get("variant"), item["reason"]]
        for item in results["skipped"]
    ]
    if skipped:
        text += "\n\n" + table(["skipped", "entry", "variant", "reason"], skipped)
    return text


def interval(pair: list[float] | None) -> str | None:
    """Return an interval as people read it."""
    return f"{pair[0]:.3g} to {pair[1]:.3g}" if pair else None
