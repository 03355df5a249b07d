"""How many nats does a density lose per sample, at most and on average?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from toolkit.checks._judge import closeness, finding, own_cases
from toolkit.core.case import Case
from toolkit.core.outcome import Finding
from toolkit.core.protocols import Source, Subject
from toolkit.runtime.limits import FLOOR, absolute, oracle_limit


class Nats:
    """Compare outputs in nats with the float64 oracle, sample by sample, on parity's real case.

    The largest error has parity's limit. The mean has the same formula on means, so that a small
    error of every sample shows below the error that one sample in the tails may have. Samples
    that eager or the oracle has no finite answer for are left to parity.
    """

    def prepare(self, source: Source) -> Sequence[Case]:  # noqa: ARG002
        """Make no cases: parity's real one serves."""
        return []

    def judge(self, subject: Subject) -> Finding | None:
        """Answer with the largest error per sample; the reason says the mean and its limit."""
        names = [spec.name for spec in subject.signature.outputs if spec.unit == "nats"]
        case = next((c for c in own_cases(subject, "parity") if c.name == "real"), None)
        if not names or case is None:
            return None
        if subject.budget and "nats" not in subject.budget:
            reason = f"{subject.variant} has a budget, but none in nats"
            return finding("nats", subject, "skipped", reason=reason)
        outputs = subject.run(case.inputs)
        rows = [_row(subject, case, name, outputs[name]) for name in names]
        worst = max(rows, key=closeness)
        return finding(
            "nats",
            subject,
            "ok" if all(row["good"] for row in rows) else "failed",
            value=worst["value"],
            limit=worst["limit"],
            unit="nats",
            reason=f"{worst['output']}: at most {worst['value']:.3g} nats per sample, "
            f"{worst['mean']:.3g} on average (limit {worst['mean_limit']:.3g}), "
            f"over {worst['samples']} samples",
            detail={"rows": rows},
        )


def _row(subject: Subject, case: Case, name: str, output: np.ndarray) -> dict[str, Any]:
    oracle, eager = case.oracle[name], case.eager[name]
    whole = np.isfinite(oracle) & np.isfinite(eager)
    output, oracle, eager = output[whole], oracle[whole], eager[whole]
    value, limit = absolute(output, oracle), oracle_limit(eager, oracle, k=subject.k)
    mean, own = (float(np.abs(given - oracle).mean()) for given in (output, eager))
    floor = FLOOR * float(np.finfo(eager.dtype).eps) * float(np.abs(oracle).mean())
    mean_limit = max(subject.k * own, floor)
    if subject.budget:
        limit = mean_limit = subject.budget["nats"]
    return {
        "output": name,
        "samples": len(oracle),
        "value": value,
        "limit": limit,
        "mean": mean,
        "mean_limit": mean_limit,
        "good": value <= limit and mean <= mean_limit,
        "unit": "nats",
    }


check = Nats()
