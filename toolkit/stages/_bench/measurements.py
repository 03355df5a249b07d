"""What a hearing leaves: rows for people and reports, raw samples, and who was lost."""

from __future__ import annotations

from typing import Any

from toolkit.core import statistics
from toolkit.stages._bench.court import Hearing, Trial

NS_PER_MS = 1e6


def rows_of(hearing: Hearing, entry: str, batch: int) -> list[dict[str, Any]]:
    """Return one row per contestant that finished, and one for the twin of the baseline."""
    trials = [trial for trial in hearing.trials if not trial.lost]
    rows = [_row(hearing, trial, entry, batch) for trial in trials]
    if hearing.twin is not None and not hearing.twin.lost:
        row = _row(hearing, hearing.twin, entry, batch)
        rows.append({**row, "backend": f"{row['backend']} A/A", "role": "noise"})
    return rows


def samples_of(hearing: Hearing, entry: str, batch: int) -> list[dict[str, Any]]:
    """Return the raw nanoseconds of every trial, one item per round."""
    twin = [hearing.twin] if hearing.twin is not None else []
    return [
        {
            "entry": entry,
            "batch": batch,
            "backend": trial.contestant.backend,
            "variant": trial.contestant.variant,
            "role": "noise" if trial is hearing.twin else "contestant",
            "wall_ns": [slot.wall for slot in trial.slots],
            "cpu_ns": [slot.cpu for slot in trial.slots],
        }
        for trial in (*hearing.trials, *twin)
    ]


def lost_of(hearing: Hearing, entry: str, batch: int) -> list[dict[str, Any]]:
    """Return who did not finish, and why."""
    return [
        {
            "backend": trial.contestant.backend,
            "variant": trial.contestant.variant,
            "entry": entry,
            "batch": batch,
            "reason": trial.lost,
        }
        for trial in hearing.trials
        if trial.lost
    ]


def _row(hearing: Hearing, trial: Trial, entry: str, batch: int) -> dict[str, Any]:
    summary = statistics.summarise(trial.samples)
    ratio, verdict = hearing.verdict(trial)
    contestant, baseline = trial.contestant, hearing.baseline
    wall = sum(trial.samples)
    return {
        "entry": entry,
        "variant": contestant.variant,
        "backend": contestant.backend,
        "batch": batch,
        "threads": contestant.threads,
        "role": "contestant",
        "settings": trial.settings,
        "steady": trial.warm_up.steady,
        "rounds": len(trial.slots),
        "count": summary.count,
        "p50_ms": _milliseconds(summary.p50),
        "p90_ms": _milliseconds(summary.p90),
        "p99_ms": _milliseconds(summary.p99),
        "largest_ms": summary.largest / NS_PER_MS,
        "outliers": summary.outliers,
        "cpu_share": sum(sum(slot.cpu) for slot in trial.slots) / wall,
        "throughput_per_s": batch * 1e9 / summary.p50.value if summary.p50 else None,
        "cold_start_ms": trial.cold_start_ns / NS_PER_MS,
        "peak_memory_bytes": trial.peak_memory_bytes,
        "ratio": ratio.value if ratio else None,
        "interval": [ratio.low, ratio.high] if ratio else None,
        "verdict": "baseline" if trial is baseline else verdict,
        "baseline": f"{baseline.contestant.backend} {baseline.contestant.variant}"
        if baseline
        else None,
        "noise_band": hearing.noise_band,
    }


def _milliseconds(percentile: statistics.Percentile | None) -> float | None:
    return percentile.value / NS_PER_MS if percentile else None
