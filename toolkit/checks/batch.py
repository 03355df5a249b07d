"""Does the graph give the same answers at batch sizes 1, 2, 7 and 64?"""

from __future__ import annotations

from collections.abc import Sequence

from toolkit.checks._judge import compare_case, finding, own_cases, worst_finding
from toolkit.core.case import Case
from toolkit.core.outcome import Finding
from toolkit.core.protocols import Source, Subject

SIZES = (1, 2, 7, 64)


class Batch:
    """Run the real case in pieces of several sizes and compare each with the oracle's rows."""

    def prepare(self, source: Source) -> Sequence[Case]:  # noqa: ARG002
        """Make no cases: parity's real one serves."""
        return []

    def judge(self, subject: Subject) -> Finding | None:
        """Answer with the batch size closest to its limit; a size that does not run fails."""
        if not any("batch" in spec.dims for spec in subject.signature.inputs):
            return finding("batch", subject, "skipped", reason="the batch is fixed by request")
        case = next(iter(own_cases(subject, "parity")), None)
        rows = []
        for size in SIZES if case else ():
            if case is None:
                continue
            inputs = {
                spec.name: spec.rows(case.inputs[spec.name], slice(size))
                for spec in subject.signature.inputs
            }
            try:
                outputs = subject.run(inputs)
            except Exception as error:  # noqa: BLE001  (a runtime may raise anything)
                return finding(
                    "batch", subject, "failed", reason=f"batch {size} does not run: {error}"
                )
            rows += compare_case(subject, case, outputs, rows=slice(size), label=f"batch {size}")
        return worst_finding("batch", subject, rows)


check = Batch()
