"""Does the graph give the same answers at batch sizes 1, 2, 7 and 64?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from toolkit.checks import _draw
from toolkit.checks._judge import Row, closeness, compare_case, finding, own_cases, worst_finding
from toolkit.core.case import Case
from toolkit.core.outcome import Finding
from toolkit.core.protocols import Source, Subject
from toolkit.core.signature import Signature

NAME = "batch"
SIZES = (1, 2, 7, 64)
MEANS = ("accuracy", "psnr", "index")
DECIBELS = 0.01


class Batch:
    """Compare with the oracle at batches of several sizes.

    The oracle is asked at each: a call may branch on the size, and one sample's answer depend on
    the others. A size that holds more samples than a case is compared with rows of parity's.

    A budget that is a mean over many samples (accuracy, psnr) does not bind a few of them: a piece
    that misses it must do as well as its samples do in a run of the whole case.
    """

    def prepare(self, source: Source) -> Sequence[Case]:
        """Make a case for each size, of parity's real samples."""
        import torch

        held = [size for size in _sizes(source.signature) if size <= source.samples]
        if not held:
            return []
        real = _draw.real(source, source.samples)
        return [
            source.answer(NAME, f"batch {size}", _draw.chosen(source, real, torch.arange(size)))
            for size in held
        ]

    def judge(self, subject: Subject) -> Finding | None:
        """Answer with the batch size closest to its limit; a size that does not run fails."""
        sizes = _sizes(subject.signature)
        if not sizes:
            return finding("batch", subject, "skipped", reason="the batch is fixed by request")
        case = next(iter(own_cases(subject, "parity")), None)
        if case is None:
            return worst_finding("batch", subject, [])
        own = {item.name: item for item in own_cases(subject, NAME)}
        rows: list[Row] = []
        whole: dict[str, np.ndarray] | None = None
        for size in sizes:
            part = _rows_of(subject.signature, case, size)
            piece = own.get(part.name, part)
            try:
                outputs = subject.run(piece.inputs)
            except Exception as error:  # noqa: BLE001  (a runtime may raise anything)
                return finding(
                    "batch", subject, "failed", reason=f"{piece.name} does not run: {error}"
                )
            found = compare_case(subject, piece, outputs, among=case)
            if any(_missed(row) for row in found):
                whole = whole or subject.run(case.inputs)
                same = _rows_of(subject.signature, replace(case, oracle=whole), size).oracle
                found = list(map(_as_good, found, compare_case(subject, part, same)))
            rows += found
        return worst_finding("batch", subject, rows)


def _rows_of(signature: Signature, case: Case, size: int) -> Case:
    """Return the first samples of a case; one that holds fewer gives some of them twice."""
    part = np.arange(size) % signature.samples(case.inputs)
    inputs = {spec.name: spec.rows(case.inputs[spec.name], part) for spec in signature.inputs}
    oracle, eager = (
        {spec.name: spec.rows(answers[spec.name], part) for spec in signature.outputs}
        for answers in (case.oracle, case.eager)
    )
    return Case(NAME, f"batch {size}", inputs, oracle, eager)


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
