"""Does a flow's inverse bring real data back: ‖x − f⁻¹(f(x))‖?"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from toolkit.checks import _draw
from toolkit.checks._judge import finding, own_cases
from toolkit.core.case import Case
from toolkit.core.outcome import Finding
from toolkit.core.protocols import Source, Subject
from toolkit.runtime.limits import absolute, oracle_limit

NAME = "round_trip"
SAMPLES = 256


class RoundTrip:
    """Invert the latent codes of real data, then ask the density graph about the result."""

    def prepare(self, source: Source) -> Sequence[Case]:
        """Make the case `latent`: z = f(x), with x beside it, for a flow's `inverse`.

        `extra` holds x under its name in the density graph, and eager's density at x and at
        eager's own f⁻¹(z).
        """
        import torch

        if source.signature.family != "flow" or source.entry.name != "inverse":
            return []
        model: Any = source.model
        density = next(entry for entry in model.entries() if entry.name == "log_prob")
        item = density.inputs[0].name
        x = _draw.real(dataclasses.replace(source, entry=density), SAMPLES)[item]
        with torch.no_grad():
            z = model(x)[0]
            here, back = model.log_prob(x), model.log_prob(model.inverse(z)[0])
        extra = {item: x, "log_prob": here, "log_prob_back": back}
        return [source.answer(NAME, "latent", {source.entry.inputs[0].name: z}, **extra)]

    def judge(self, subject: Subject) -> Finding | None:
        """Answer with the largest |x − f⁻¹(f(x))|; the density must not drift either, in nats."""
        case = next(iter(own_cases(subject, NAME)), None)
        if case is None:
            return None
        if subject.budget and "absolute" not in subject.budget:
            reason = f"{subject.variant} has a budget, but none in absolute units"
            return finding(NAME, subject, "skipped", reason=reason)
        item = next(name for name in case.extra if name not in ("log_prob", "log_prob_back"))
        x, output = case.extra[item], subject.signature.outputs[0].name
        back = subject.run(case.inputs)[output]
        value = absolute(back, x)
        limit = subject.budget.get(
            "absolute", oracle_limit(case.eager[output], x.astype(np.float64), k=subject.k)
        )
        drift = _drift(subject, case, {item: back})
        good = value <= limit and all(row["good"] for row in drift)
        return finding(
            NAME,
            subject,
            "ok" if good else "failed",
            value=value,
            limit=limit,
            unit="absolute",
            reason=f"max|x − f⁻¹(f(x))| over {len(x)} real samples, limit from eager's own"
            + "".join(f"; its density drifts by {row['value']:.3g} nats" for row in drift),
            detail={"drift": drift},
        )


def _drift(subject: Subject, case: Case, feeds: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Judge how far, in nats, the density graph moves between x and the inverted latent."""
    run = subject.sibling("log_prob")
    if run is None:
        return []
    here = case.extra["log_prob"]
    value = absolute(next(iter(run(feeds).values())), here)
    own = oracle_limit(case.extra["log_prob_back"], here.astype(np.float64), k=subject.k)
    limit = subject.budget.get("nats", own)
    return [{"value": value, "limit": limit, "good": value <= limit}]


check = RoundTrip()
