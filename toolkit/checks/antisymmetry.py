"""Do a flow's two graphs agree: log_det(f)(x) = −log_det(f⁻¹)(f(x))?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.checks import _draw, _flow
from toolkit.checks._judge import finding, own_cases
from toolkit.core.case import Case
from toolkit.core.outcome import Finding
from toolkit.core.protocols import Source, Subject
from toolkit.runtime.limits import FLOOR, absolute

if TYPE_CHECKING:
    from torch import Tensor

NAME = "antisymmetry"
SAMPLES = 64
# Numerical inverses (bisection, ODE solvers) contradict their density by about this many nats.
INEXACT = 1e-3


class Antisymmetry:
    """Ask both graphs: `log p(x(z)) + log|det ∂x/∂z|` is the base's log-density at z.

    The density graph's own log-determinant is `log p(x) − log base(z)`, so that the sum says that
    the two directions' determinants cancel.
    """

    def prepare(self, source: Source) -> Sequence[Case]:
        """Make the cases `noise` and, where there is an encoder, `latent`: codes of real data.

        `extra` holds the base's log-density where its law is known, else the oracle's sum, then
        eager's and the oracle's sum and the size of their terms, in nats.
        """
        both = _flow.directions(source)
        if both is None or source.entry.name != "inverse":
            return []
        count = min(SAMPLES, source.samples)
        drawn = {"noise": _draw.real(source, count), "latent": _flow.codes(source, both, count)}
        return [
            source.answer(NAME, name, tensors, **_sums(source, both, tensors))
            for name, tensors in drawn.items()
            if tensors
        ]

    def judge(self, subject: Subject) -> Finding | None:
        """Answer with the largest difference of the sum from the base's density, in nats."""
        cases = own_cases(subject, NAME)
        if not cases:
            return None
        run = subject.sibling("log_prob")
        if run is None:
            return finding(NAME, subject, "skipped", reason="there is no graph of log_prob")
        if subject.budget and "nats" not in subject.budget:
            reason = f"{subject.variant} has a budget, but none in nats"
            return finding(NAME, subject, "skipped", reason=reason)
        rows = []
        for case in cases:
            outputs = subject.run(case.inputs)
            density = next(iter(run(_flow.density_feeds(case, outputs)).values()))
            total = density.astype(np.float64) + outputs["log_det"]
            rows.append(_row(subject, case, total))
        worst = max(rows, key=lambda row: row["excess"])
        bad = any(not row["excess"] <= 0 for row in rows)
        own = max(row["own"] for row in rows)
        says = f"; the model contradicts itself by {own:.3g} nats in float64" * (own > INEXACT)
        return finding(
            NAME,
            subject,
            "failed" if bad else "ok",
            value=worst["value"],
            limit=worst["limit"],
            unit="nats",
            reason=f"max|log p(x) + log|det ∂x/∂z| − log base(z)| on {worst['case']}{says}",
            detail={"rows": rows},
        )


def _sums(source: Source, both: _flow.Directions, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    terms = {}
    for name, evaluate in (("eager", source.eager), ("oracle", source.exact)):
        data, log_det = _flow.decoded(both, evaluate, tensors)
        terms[name] = (_flow.log_prob(both, evaluate, data).double(), log_det.double())
    sums = {name: density + log_det for name, (density, log_det) in terms.items()}
    base = _flow.log_base(both.latents, tensors)
    sizes = [term.abs() for term in terms["oracle"]]
    return {
        **_flow.given(both, tensors),
        **sums,
        "base": sums["oracle"] if base is None else base,
        "size": sizes[0].maximum(sizes[1]),
    }


def _row(subject: Subject, case: Case, total: np.ndarray) -> dict[str, Any]:
    """Hold one case's sums against the budget of both terms, or against eager's own error.

    Samples that the model itself has no finite answer for are left out.
    """
    known = np.isfinite(case.extra["oracle"]) & np.isfinite(case.extra["eager"])
    base, oracle = case.extra["base"][known], case.extra["oracle"][known]
    value = absolute(total[known], base) if known.any() else 0.0
    own = absolute(oracle, base)
    eager = absolute(case.extra["eager"][known], base if own <= INEXACT else oracle)
    floor = FLOOR * float(np.finfo(np.float32).eps) * float(case.extra["size"][known].max())
    limit = 2 * subject.budget["nats"] if subject.budget else max(subject.k * eager, floor)
    excess = value - limit if np.isfinite(value) else np.inf
    return {"case": case.name, "value": value, "limit": limit, "own": own, "excess": excess}


check = Antisymmetry()
