"""Does the graph give the same answers at batch sizes 1, 2, 7 and 64?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from toolkit.checks._judge import Row, closeness, compare_case, finding, own_cases, worst_finding
from toolkit.core.case import Case
from toolkit.core.outcome import Finding
from toolkit.core.protocols import Source, Subject
from toolkit.core.signature import Signature

SIZES = (1, 2, 7, 64)
MEANS = ("accuracy", "psnr", "index")
DECIBELS = 0.01


class Batch:
    """Run the real case in pieces of several sizes and compare each with the oracle's rows.

    A budget that is a mean over many samples (accuracy, psnr) does not bind a few of them: a piece
    that misses it must do as well as its samples do in a run of the whole case.
    """

    def prepare(self, source: Source) -> Sequence[Case]:  # noqa: ARG002
        """Make no cases: parity's real one serves."""
        return []

    def judge(self, subject: Subject) -> Finding | None:
        """Answer with the batch size closest to its limit; a size that does not run fails."""
        sizes = _sizes(subject.signature)
        if not sizes:
            return finding("batch", subject, "skipped", reason="the batch is fixed by request")
        case = next(iter(own_cases(subject, "parity")), None)
        if case is None:
            return worst_finding("batch", subject, [])
        first = subject.signature.inputs[0]
        held = case.inputs[first.name].shape[first.batch_axis]
        rows: list[Row] = []
        whole: dict[str, np.ndarray] | None = None
        for size in sizes:
            # A case that holds fewer samples gives some of them twice.
            part = np.arange(size) % held
            inputs = {
                spec.name: spec.rows(case.inputs[spec.name], part)
                for spec in subject.signature.inputs
            }
            try:
                outputs = subject.run(inputs)
            except Exception as error:  # noqa: BLE001  (a runtime may raise anything)
                return finding(
                    "batch", subject, "failed", reason=f"batch {size} does not run: {error}"
                )
            found = compare_case(subject, case, outputs, rows=part, label=f"batch {size}")
            if any(_missed(row) for row in found):
                whole = whole or subject.run(case.inputs)
                same = {
                    spec.name: spec.rows(whole[spec.name], part)
                    for spec in subject.signature.outputs
                }
                found = list(map(_as_good, found, compare_case(subject, case, same, rows=part)))
            rows += found
        return worst_finding("batch", subject, rows)


def _missed(row: Row) -> bool:
    """Return whether a row is over a limit that is a mean; NaN and Inf are not excused."""
    return row["unit"] in MEANS and closeness(row) > 1 and bool(np.isfinite(row["value"]))


def _as_good(row: Row, whole: Row) -> Row:
    """Return a row held to what the same samples reach among all, where that is the wider limit."""
    if not _missed(row):
        return row
    if row["unit"] == "psnr":
        limit = min(row["limit"], whole["value"] - DECIBELS)
        return {**row, "limit": limit, "good": row["value"] >= limit}
    limit = max(row["limit"], whole["value"])
    return {**row, "limit": limit, "good": row["value"] <= limit}


def _sizes(signature: Signature) -> list[int]:
    """Return the sizes that the entry's own range of the batch allows."""
    if not any("batch" in spec.dims for spec in signature.inputs):
        return []
    low, _, high, multiple = (*signature.ranges.get("batch", (1, 1, max(SIZES))), 1)[:4]
    inside = [size for size in SIZES if low <= size <= high and size % multiple == 0]
    return inside or [low]


check = Batch()
