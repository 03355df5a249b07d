"""Compare two runs: an interleaved verdict, parity and size for every entry that both have.

It is no part of the pipeline: it reads two run folders and writes nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.core.errors import UsageError
from toolkit.core.folder import RunFolder
from toolkit.core.outcome import Outcome
from toolkit.runtime.limits import absolute
from toolkit.stages._bench.contestant import Contestant
from toolkit.stages._bench.court import Hearing, hold
from toolkit.stages._bench.inputs import save_inputs, signature_of
from toolkit.stages._open import opened

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class Terms:
    """How two runs are compared.

    Arguments:
        backend: What runs both.
        variant: The variant of both; where a run has none, its exported graph.
        batches: Batch sizes.
        threads: Threads within an operator.
        rounds: Rounds per entry and batch.
        slot: Seconds of one turn.
        seed: Seed of the order of turns, and of inputs that are drawn.
        device: `cpu`, `cuda` or `cuda:0`.
        providers: ONNX Runtime providers in short names.
    """

    backend: str = "onnxruntime"
    variant: str = "fp32"
    batches: tuple[int, ...] = (1,)
    threads: int = 1
    rounds: int = 12
    slot: float = 0.15
    seed: int = 0
    device: str = "cpu"
    providers: tuple[str, ...] = ("cpu",)


def compare(a: RunFolder, b: RunFolder, terms: Terms | None = None) -> Outcome:
    """Time B against A on A's inputs.

    Returns:
        An outcome whose detail holds `rows`: entry, batch, `ratio` (A's time over B's), interval,
        noise band, verdict on B, the largest difference of the outputs, and bytes of both files.

    Raises:
        UsageError: The runs have no entry of the same inputs and outputs in common.
    """
    agreed = terms or Terms()
    with tempfile.TemporaryDirectory(prefix="toolkit-") as scratch:
        rows = [
            _row(a, b, entry, batch, agreed, Path(scratch))
            for entry in _common(a, b)
            for batch in agreed.batches
        ]
    lost = [f"{row['entry']}: {row['reason']}" for row in rows if row["reason"]]
    detail = {"a": a.name, "b": b.name, "rows": rows}
    return Outcome("failed" if lost else "ok", "; ".join(lost), detail)


def _row(
    a: RunFolder, b: RunFolder, entry: str, batch: int, terms: Terms, scratch: Path
) -> dict[str, Any]:
    feeds = save_inputs(a, entry, batch, scratch, seed=terms.seed)
    pair = [_contestant(folder, entry, feeds, terms) for folder in (a, b)]
    hearing = hold(pair, rounds=terms.rounds, slot=terms.slot, seed=terms.seed)
    sizes = [Path(contestant.path).stat().st_size for contestant in pair]
    row = {"entry": entry, "batch": batch, "bytes": sizes, **_timing(hearing)}
    return {**row, "difference": None if row["reason"] else _difference(pair, a, entry, feeds)}


def _timing(hearing: Hearing) -> dict[str, Any]:
    lost = [trial.lost for trial in hearing.trials if trial.lost]
    ratio, verdict = hearing.verdict(hearing.trials[1])
    return {
        "ratio": ratio.value if ratio and not lost else None,
        "interval": [ratio.low, ratio.high] if ratio and not lost else None,
        "noise_band": hearing.noise_band,
        "verdict": "undecided" if lost else verdict,
        "reason": "; ".join(lost),
    }


def _difference(pair: Sequence[Contestant], a: RunFolder, entry: str, feeds: Path) -> float:
    """Return the largest difference between the outputs of both on the same inputs."""
    from safetensors.numpy import load_file

    signature = signature_of(a, entry)
    arrays: dict[str, np.ndarray] = load_file(feeds)
    answers = []
    for contestant in pair:
        with opened(
            Path(contestant.path),
            signature,
            backend=contestant.backend,
            device=contestant.device,
            providers=contestant.providers,
        ) as run:
            answers.append(run(arrays))
    return max(absolute(answers[1][name], answers[0][name]) for name in answers[0])


def _contestant(folder: RunFolder, entry: str, feeds: Path, terms: Terms) -> Contestant:
    return Contestant(
        backend=terms.backend,
        variant=terms.variant,
        path=str(folder.path / _file(folder, entry, terms.variant)),
        signature=signature_of(folder, entry).as_dict(),
        feeds=str(feeds),
        threads=terms.threads,
        device=terms.device,
        providers=terms.providers,
    )


def _file(folder: RunFolder, entry: str, variant: str) -> str:
    if variant in (made := folder.variants(entry)):
        return str(made[variant]["file"])
    return str(folder.stage("export")["entries"][entry]["file"])


def _common(a: RunFolder, b: RunFolder) -> list[str]:
    theirs = b.stage("export")["entries"]
    common = [
        name
        for name, entry in a.stage("export")["entries"].items()
        if _form(entry) and _form(entry) == _form(theirs.get(name, {}))
    ]
    if not common:
        raise UsageError(
            "the runs have no entry in common",
            where=f"{a.path} and {b.path}",
            next_step="compare runs whose entries have the same names, inputs and outputs",
        )
    return common


def _form(entry: dict[str, Any]) -> Any:
    """Return what two entries must share: names, element types and shapes."""
    signature = entry.get("signature", {})
    return [
        (item["name"], item["dtype"], item["dims"])
        for role in ("inputs", "outputs")
        for item in signature.get(role, [])
    ]
