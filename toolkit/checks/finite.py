"""Is every output finite wherever the oracle's is?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from toolkit.checks._judge import finding, own_cases
from toolkit.core.case import Case
from toolkit.core.outcome import Finding
from toolkit.core.protocols import Source, Subject


class Finite:
    """Count NaN and Inf where the oracle has a finite number, on every case of parity."""

    def prepare(self, source: Source) -> Sequence[Case]:  # noqa: ARG002
        """Make no cases: parity's serve."""
        return []

    def judge(self, subject: Subject) -> Finding:
        """Answer with the number of spoiled elements."""
        spoiled, total = 0, 0
        for case in own_cases(subject, "parity"):
            outputs = subject.run(case.inputs)
            for name, oracle in case.oracle.items():
                good = np.isfinite(oracle)
                spoiled += int(np.sum(~np.isfinite(outputs[name]) & good))
                total += int(good.sum())
        if not total:
            return finding("finite", subject, "failed", reason="nothing verified: no cases")
        return finding(
            "finite",
            subject,
            "failed" if spoiled else "ok",
            value=float(spoiled),
            limit=0.0,
            unit="elements",
            reason=f"{spoiled} of {total} elements are NaN or Inf where the oracle is finite",
        )


check = Finite()
