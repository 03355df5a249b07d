"""How checks turn compared outputs into one finding."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from toolkit.core.case import Case
from toolkit.core.outcome import Finding
from toolkit.core.protocols import Subject
from toolkit.runtime.limits import FORMULA, absolute, judge, oracle_limit

if TYPE_CHECKING:
    import numpy as np

Row = dict[str, Any]
FIRST = {"real": 0, "noise": 1}


def own_cases(subject: Subject, check: str) -> list[Case]:
    """Return the cases that a check prepared, real data first."""
    cases = [case for case in subject.cases if case.check == check]
    return sorted(cases, key=lambda case: FIRST.get(case.name, len(FIRST)))


def compare_case(
    subject: Subject,
    case: Case,
    outputs: Mapping[str, np.ndarray] | None = None,
    *,
    among: Case | None = None,
) -> list[Row]:
    """Judge every output of a case against the oracle.

    Arguments:
        subject: What is judged.
        case: Inputs and reference answers.
        outputs: What the variant gave; run here if absent.
        among: A larger case of the same kind: few samples tell little of eager's error, and a
            limit without a budget counts its samples too.
    """
    given = subject.run(case.inputs) if outputs is None else outputs
    judged = []
    for spec in subject.signature.outputs:
        good, value, limit, unit = judge(
            given[spec.name],
            case.oracle[spec.name],
            case.eager[spec.name],
            unit=spec.unit,
            budget=subject.budget,
            k=subject.k,
        )
        if among is not None and unit == "absolute" and unit not in subject.budget:
            wider = oracle_limit(among.eager[spec.name], among.oracle[spec.name], k=subject.k)
            limit = max(limit, wider)
            good = value <= limit
        judged.append(
            {
                "case": case.name,
                "output": spec.name,
                "samples": _count(case.oracle[spec.name], spec.batch_axis),
                "good": good,
                "value": value,
                "limit": limit,
                "unit": unit,
                "eager_error": absolute(case.eager[spec.name], case.oracle[spec.name]),
            }
        )
    return judged


def _count(answers: np.ndarray, axis: int) -> int:
    """Return how many samples answers are of; what has no such axis belongs to all together."""
    return answers.shape[axis] if answers.ndim > axis else 1


def worst_finding(check: str, subject: Subject, rows: Sequence[Row]) -> Finding:
    """Return the finding of the row closest to, or furthest over, its limit."""
    if not rows:
        return finding(check, subject, "failed", reason="nothing verified: there are no cases")
    worst = max(rows, key=closeness)
    bad = any(not row["good"] for row in rows)
    formula = f"budget in {worst['unit']}" if worst["unit"] in subject.budget else FORMULA
    where = f"{worst['output']} on {worst['case']}, eager off by {worst['eager_error']:.2g}"
    return finding(
        check,
        subject,
        "failed" if bad else "ok",
        value=worst["value"],
        limit=worst["limit"],
        unit=worst["unit"],
        reason=f"{where}: over the limit, {formula}" if bad else f"{formula}; closest: {where}",
        detail={"rows": list(rows)},
    )


def finding(check: str, subject: Subject, status: Any, **fields: Any) -> Finding:
    """Return a finding about a subject."""
    return Finding(
        check, subject.signature.entry, subject.variant, subject.backend, status, **fields
    )


def closeness(row: Row) -> float:
    """Return how near a row is to its limit; above 1 it is over."""
    value, limit = row["value"], row["limit"]
    if math.isnan(value):
        return math.inf
    if row["unit"] == "psnr":
        return float(10.0 ** ((limit - value) / 20.0))
    return value / limit if limit else (math.inf if value else 0.0)
