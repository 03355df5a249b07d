"""Compare two runs: an interleaved verdict, parity and size."""

from __future__ import annotations

import math
from typing import Annotated, Any

import typer

from toolkit.cli._answer import Answer, table
from toolkit.cli._options import Device, Providers
from toolkit.core.errors import CheckFailed, InconclusiveError

Side = Annotated[str, typer.Argument(help="A run folder, or a recipe's name.", metavar="RUN")]


def command(
    run_a: Side,
    run_b: Side,
    backend: Annotated[
        str, typer.Option("--backend", help="What runs both.", metavar="NAME")
    ] = "onnxruntime",
    variant: Annotated[str, typer.Option("--variant", help="Variant.", metavar="NAME")] = "fp32",
    batch: Annotated[
        str, typer.Option("--batch", help="Batch sizes: 1,16.", metavar="SIZES")
    ] = "1",
    threads: Annotated[
        int, typer.Option("--threads", help="Threads within an operator.", min=1)
    ] = 1,
    duration: Annotated[
        float, typer.Option("--duration", help="Seconds of timing per run.", metavar="S", min=0.1)
    ] = 1.8,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the order of turns.")] = 0,
    device: Device = "",
    providers: Providers = "",
) -> Answer:
    """Compare two runs: an interleaved verdict, parity and size.

    The ratio is the first run's time over the second's: above 1 the second is faster. Exits 5
    where the measurement decides nothing.
    """
    from toolkit.cli._options import split
    from toolkit.cli.bench import numbers
    from toolkit.core.device import resolve
    from toolkit.core.folder import RunFolder
    from toolkit.stages._bench.court import FEWEST_ROUNDS
    from toolkit.stages.compare import Terms, compare

    plain = Terms()
    names = tuple(split(providers)) or plain.providers
    terms = Terms(
        backend=backend,
        variant=variant,
        batches=tuple(numbers("--batch", batch)),
        threads=threads,
        rounds=max(FEWEST_ROUNDS, math.ceil(duration / plain.slot)),
        seed=seed,
        device=resolve(device or plain.device, names),
        providers=names,
    )
    outcome = compare(RunFolder.find(run_a), RunFolder.find(run_b), terms)
    rows = outcome.detail["rows"]
    return Answer(outcome.as_dict(), lambda: _text(rows, run_a, run_b), _code(outcome.ok, rows))


def _code(ok: bool, rows: list[dict[str, Any]]) -> int:
    if not ok:
        return CheckFailed.exit_code
    undecided = all(row["verdict"] == "undecided" for row in rows)
    return InconclusiveError.exit_code if undecided else 0


def _text(rows: list[dict[str, Any]], run_a: str, run_b: str) -> str:
    from toolkit.cli.bench import interval

    lines = [
        [
            row["entry"],
            row["batch"],
            row["verdict"],
            row["ratio"],
            interval(row["interval"]),
            row["noise_band"],
            row["difference"],
            " → ".join(map(str, row["bytes"])),
            row["reason"],
        ]
        for row in rows
    ]
    headers = ["entry", "batch", f"{run_b} is", "ratio", "interval", "noise", "difference"]
    return table(
        [*headers, "bytes", "reason"], lines, title=f"{run_b} against {run_a}, times faster"
    )
