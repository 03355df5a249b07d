"""Does a second call, after another batch, answer as the first did?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from toolkit.checks._judge import finding, own_cases
from toolkit.core.case import Case
from toolkit.core.outcome import Finding
from toolkit.core.protocols import Source, Subject


class SecondCall:
    """Call with one batch, then another, then the first again: state must not leak."""

    def prepare(self, source: Source) -> Sequence[Case]:  # noqa: ARG002
        """Make no cases: parity's serve."""
        return []

    def judge(self, subject: Subject) -> Finding:
        """Answer with the largest difference between the first call and its repetition."""
        cases = own_cases(subject, "parity")
        if not cases:
            return finding("second_call", subject, "failed", reason="nothing verified: no cases")
        first = subject.run(cases[0].inputs)
        subject.run(cases[-1].inputs)
        again = subject.run(cases[0].inputs)
        changed = [name for name, array in first.items() if not _same(array, again[name])]
        return finding(
            "second_call",
            subject,
            "failed" if changed else "ok",
            value=float(len(changed)),
            limit=0.0,
            unit="outputs",
            reason=f"outputs that changed on repetition: {', '.join(changed) or 'none'}",
        )


def _same(first: np.ndarray, again: np.ndarray) -> bool:
    return np.array_equal(first, again, equal_nan=np.issubdtype(first.dtype, np.floating))


check = SecondCall()
