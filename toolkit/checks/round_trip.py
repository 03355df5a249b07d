"""Does a flow's inverse bring real data back: ‖x − f⁻¹(f(x))‖?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.checks import _flow
from toolkit.checks._judge import finding, own_cases
from toolkit.core.case import Case
from toolkit.core.outcome import Finding
from toolkit.core.protocols import Source, Subject
from toolkit.runtime.limits import absolute, oracle_limit

if TYPE_CHECKING:
    Arrays = dict[str, np.ndarray]

NAME = "round_trip"
SAMPLES = 256
DATA, BACK, CODE = "data.", "back.", "code."


class RoundTrip:
    """Invert the latent codes of real data, then ask the other direction's graphs about the result.

    The density must not drift between x and f⁻¹(f(x)), and where f itself is a graph, it must
    bring the codes back: z → x → z.
    """

    def prepare(self, source: Source) -> Sequence[Case]:
        """Make the case `latent`: z = f(x) for a flow's `inverse` whose f is an entry or a method.

        `extra` holds x, eager's own f⁻¹(z) and f(f⁻¹(z)), and eager's density at x and at
        f⁻¹(z).
        """
        both = _flow.directions(source)
        if both is None or source.entry.name != "inverse":
            return []
        tensors = _flow.codes(source, both, min(SAMPLES, source.samples))
        forward = _flow.encoder(source, both)
        if not tensors or forward is None:
            return []
        back, _ = _flow.decoded(both, source.eager, tensors)
        codes = source.eager(forward, _flow.ordered(forward, back))
        extra = {
            **{DATA + item.name: tensors[item.name] for item in both.data},
            **{BACK + item.name: back[item.name] for item in both.data},
            **{CODE + item.name: z for item, z in zip(both.latents, codes, strict=False)},
            **_flow.given(both, tensors),
            "log_prob": _flow.log_prob(both, source.eager, tensors),
            "log_prob_back": _flow.log_prob(both, source.eager, back),
        }
        return [source.answer(NAME, "latent", tensors, **extra)]

    def judge(self, subject: Subject) -> Finding | None:
        """Answer with the largest |x − f⁻¹(f(x))|; the density must not drift either, in nats.

        Its limit follows from what eager loses; or from what the codes, which are rounded, have
        lost and parity's limit beside it: eager's two directions may undo each other's errors.
        """
        case = next(iter(own_cases(subject, NAME)), None)
        if case is None:
            return None
        if subject.budget and "absolute" not in subject.budget:
            reason = f"{subject.variant} has a budget, but none in absolute units"
            return finding(NAME, subject, "skipped", reason=reason)
        outputs = subject.run(case.inputs)
        x, own = _part(case.extra, DATA), _part(case.extra, BACK)
        lost = _largest(
            absolute(case.oracle[name], array.astype(np.float64))
            + oracle_limit(case.eager[name], case.oracle[name], k=subject.k)
            for name, array in x.items()
        )
        row = _row(subject, {name: outputs[name] for name in x}, x, own, least=lost)
        feeds = _flow.density_feeds(case, outputs)
        drift, codes = _drift(subject, case, feeds), _codes(subject, case, feeds)
        return finding(
            NAME,
            subject,
            "ok" if all(item["good"] for item in (row, *drift, *codes)) else "failed",
            value=row["value"],
            limit=row["limit"],
            unit="absolute",
            reason=f"max|x − f⁻¹(f(x))| over {len(next(iter(x.values())))} real samples, "
            "limit from eager's own, or the codes'"
            + "".join(f"; its density drifts by {item['value']:.3g} nats" for item in drift)
            + "".join(f"; max|z − f(f⁻¹(z))| is {item['value']:.3g}" for item in codes),
            detail={"drift": drift, "codes": codes},
        )


def _part(extra: Arrays, prefix: str) -> Arrays:
    return {
        name.removeprefix(prefix): array for name, array in extra.items() if name.startswith(prefix)
    }


def _row(
    subject: Subject, given: Arrays, truth: Arrays, own: Arrays, *, least: float = 0.0
) -> dict[str, Any]:
    """Judge how far arrays are from where they started, against how far eager's own are."""
    value = _largest(absolute(given[name], array) for name, array in truth.items())
    limits = (
        oracle_limit(own[name], array.astype(np.float64), k=subject.k)
        for name, array in truth.items()
    )
    limit = max(_largest(limits), least)
    limit = subject.budget.get("absolute", limit)
    return {"value": value, "limit": limit, "good": value <= limit}


def _largest(values: Any) -> float:
    return float(np.max(list(values)))


def _drift(subject: Subject, case: Case, feeds: Arrays) -> list[dict[str, Any]]:
    """Judge how far, in nats, the density graph moves between x and the inverted latent."""
    run = subject.sibling("log_prob")
    if run is None:
        return []
    here = case.extra["log_prob"]
    value = absolute(next(iter(run(feeds).values())), here)
    own = oracle_limit(case.extra["log_prob_back"], here.astype(np.float64), k=subject.k)
    limit = subject.budget.get("nats", own)
    return [{"value": value, "limit": limit, "good": value <= limit}]


def _codes(subject: Subject, case: Case, feeds: Arrays) -> list[dict[str, Any]]:
    """Judge how far the graph of f, where there is one, brings the latents from where they were."""
    run = subject.sibling("forward")
    if run is None:
        return []
    own = _part(case.extra, CODE)
    outputs = dict(zip(own, run(feeds).values(), strict=False))
    return [_row(subject, outputs, {name: case.inputs[name] for name in own}, own)]


check = RoundTrip()
