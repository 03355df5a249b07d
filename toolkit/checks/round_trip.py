"""Does a flow's inverse bring real data back: ‖x − f⁻¹(f(x))‖?"""

from __future__ import annotations

from collections.abc import Sequence

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
        """Make the case `latent`: z = f(x), with x beside it, for a flow's `inverse`."""
        import torch

        if source.signature.family != "flow" or source.entry.name != "inverse":
            return []
        density = next(e for e in source.model.entries() if e.name == "log_prob")  # type: ignore[operator]
        x = _draw.real(_with_entry(source, density), SAMPLES)[density.inputs[0].name]
        with torch.no_grad():
            z = source.model(x)[0]
            log_prob = source.model.log_prob(x)  # type: ignore[operator]
        name = source.entry.inputs[0].name
        return [source.answer(NAME, "latent", {name: z}, x=x, log_prob=log_prob)]

    def judge(self, subject: Subject) -> Finding | None:
        """Answer with the largest |x − f⁻¹(f(x))|; the drift of the density is in the detail."""
        case = next(iter(own_cases(subject, NAME)), None)
        if case is None:
            return None
        x, output = case.extra["x"], subject.signature.outputs[0].name
        if subject.budget and NAME not in subject.budget:
            reason = f"no budget {NAME!r} for {subject.variant}; its density is judged in nats"
            return finding(NAME, subject, "skipped", reason=reason)
        back = subject.run(case.inputs)[output]
        value = absolute(back, x)
        limit = subject.budget.get(
            NAME, oracle_limit(case.eager[output], x.astype(np.float64), k=subject.k)
        )
        return finding(
            NAME,
            subject,
            "ok" if value <= limit else "failed",
            value=value,
            limit=limit,
            unit="absolute",
            reason=f"max|x − f⁻¹(f(x))| over {len(x)} real samples, limit from eager's own",
            detail=_drift(subject, case, back),
        )


def _drift(subject: Subject, case: Case, back: np.ndarray) -> dict[str, float]:
    """Return how far, in nats, the density graph moves between x and the inverted latent."""
    run = subject.sibling("log_prob")
    if run is None:
        return {}
    density = next(iter(run({"x": back}).values()))
    return {"nats": absolute(density, case.extra["log_prob"])}


def _with_entry(source: Source, entry: object) -> Source:
    import dataclasses

    return dataclasses.replace(source, entry=entry)  # type: ignore[arg-type]


check = RoundTrip()
