"""Is a flow right at the edges of its splines' bins and tails, at both zeros and at denormals?"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.checks import _draw, _flow
from toolkit.checks._judge import finding, own_cases
from toolkit.core.case import Case
from toolkit.core.entry import Input
from toolkit.core.outcome import Finding
from toolkit.core.protocols import Source, Subject
from toolkit.runtime.limits import FLOOR

if TYPE_CHECKING:
    from torch import Tensor, nn

NAME = "bin_edges"
ATTRIBUTES = ("tail_bound", "bound", "left", "right", "bottom", "top", "B")
ROUND = (1.0, 2.0, 3.0, 5.0)
MOST = 6
INSIDE = (0.25, 0.5, 0.75)
SMALL = (0.0, -0.0, 1e-45, -1e-45, 1e-40, -1e-40, 1.1754944e-38, -1.1754944e-38)
BESIDE = ("below", "at", "above")


class BinEdges:
    """Compare with the oracle exactly at edges and one unit in the last place beside them.

    At an edge either side's answer is right, where they differ: what counts is the distance to
    the range of the oracle's three answers.
    """

    def prepare(self, source: Source) -> Sequence[Case]:
        """Make the cases `tails` (±bound), `bins` (between) and `zeros` for a flow's entries.

        Half of the samples have the value in every element, half are like the data with one
        element replaced. The bounds are attributes of the modules, else round numbers.
        """
        if source.signature.family != "flow" or _repeats(source):
            return []
        bounds = sorted({abs(v) for v in _bounds(source.model)} - {0.0})[:MOST] or list(ROUND)
        values = {
            "tails": [sign * bound for bound in bounds for sign in (1, -1)],
            "bins": [sign * part * b for b in bounds for part in INSIDE for sign in (1, -1)],
            "zeros": list(SMALL),
        }
        drawn = {name: _triples(source, edges) for name, edges in values.items()}
        return [source.answer(NAME, name, inputs) for name, inputs in drawn.items() if inputs]

    def judge(self, subject: Subject) -> Finding | None:
        """Answer with the output and case nearest its limit; a budget asks for numbers only."""
        cases = own_cases(subject, NAME)
        if not cases:
            return None
        rows = [row for case in cases for row in _rows(subject, case)]
        spoiled = sum(row["spoiled"] for row in rows)
        worst = max(rows, key=lambda row: row["value"] / (row["limit"] or 1.0))
        bad = spoiled or (not subject.budget and any(not row["good"] for row in rows))
        reason = f"{worst['output']} on {worst['case']}, at the edge and beside it"
        if spoiled:
            reason = f"{spoiled} elements are NaN or Inf where the oracle and eager are finite"
        return finding(
            NAME,
            subject,
            "failed" if bad else "ok",
            value=float(spoiled) if subject.budget else worst["value"],
            limit=0.0 if subject.budget else worst["limit"],
            unit="elements" if subject.budget else "absolute",
            reason=reason,
            detail={"rows": rows},
        )


def _rows(subject: Subject, case: Case) -> Iterator[dict[str, Any]]:
    outputs = subject.run(case.inputs)
    for spec in subject.signature.outputs:
        given, oracle, eager = (
            np.moveaxis(answers[spec.name], spec.batch_axis, 0)
            for answers in (outputs, case.oracle, case.eager)
        )
        sides = oracle.reshape(len(BESIDE), -1, *oracle.shape[1:])
        lowest, highest = (
            np.tile(f(sides, 0), (len(BESIDE), *[1] * (oracle.ndim - 1))) for f in (np.min, np.max)
        )
        known = np.isfinite(lowest) & np.isfinite(highest) & np.isfinite(eager)
        wrong, own = (
            _beyond(answer[known], lowest[known], highest[known]) for answer in (given, eager)
        )
        floor = (
            FLOOR
            * float(np.finfo(eager.dtype).eps)
            * float(np.max(np.abs(oracle[known]), initial=0))
        )
        value, limit = (
            float(np.max(wrong, initial=0)),
            max(subject.k * float(np.max(own, initial=0)), floor),
        )
        yield {
            "case": case.name,
            "output": spec.name,
            "value": value,
            "limit": limit,
            "good": value <= limit,
            "spoiled": int(np.sum(~np.isfinite(given) & known)),
            "unknown": int(np.sum(~known)),
        }


def _beyond(answer: np.ndarray, lowest: np.ndarray, highest: np.ndarray) -> np.ndarray:
    """Return how far answers are outside a range; 0 inside, and for what is no number."""
    outside = np.maximum(np.maximum(lowest - answer, answer - highest), 0.0)
    return np.where(np.isfinite(answer), outside, 0.0)


def _triples(source: Source, edges: Sequence[float]) -> dict[str, Tensor]:
    """Return samples below, at and above every edge that lies in the inputs' domain."""
    import torch

    moved = [item for item in source.entry.inputs if _moves(item)]
    if not moved:
        return {}
    kept = [edge for edge in edges if all(_holds(item, edge) for item in moved)]
    if not kept:
        return {}
    kept = _draw.evenly(kept, source.samples // 2)
    base = _draw.real(source, len(kept))
    parts = []
    for towards in (-torch.inf, None, torch.inf):
        column = torch.tensor(kept)
        if towards is not None:
            column = torch.nextafter(column, torch.full_like(column, towards))
        parts.append({item.name: _placed(item, column, base[item.name]) for item in moved})
    again = torch.arange(2 * len(parts) * len(kept)) % len(kept)
    same = {spec.name: spec.rows(base[spec.name], again) for spec in source.signature.inputs}
    return {
        **same,
        **{
            item.name: torch.cat([part[item.name] for part in parts], item.batch_axis)
            for item in moved
        },
    }


def _repeats(source: Source) -> bool:
    """Return whether the entry is a sampler beside the inverse that it calls."""
    return source.entry.name == "sample" and _flow.named(source, "inverse") is not None


def _moves(item: Input) -> bool:
    return item.dtype == "float32" and item.kind in ("data", "noise") and _draw.movable(item)


def _holds(item: Input, edge: float) -> bool:
    """Return whether a value and its neighbours lie in the domain, or in the noise's law."""
    low, high = item.low, item.high
    if item.kind == "noise" and item.law == "uniform":
        low, high = max(low or 0.0, 0.0), min(1.0 if high is None else high, 1.0)
    return (low is None or edge > low) and (high is None or edge < high)


def _placed(item: Input, column: Tensor, base: Tensor) -> Tensor:
    """Return constant samples of the column's values, then the base with one element replaced."""
    import torch

    replaced = _draw.replaced(item, column, base, torch.arange(len(column)))
    return torch.cat([_draw.constant(item, column), replaced], item.batch_axis)


def _bounds(model: nn.Module) -> Iterator[float]:
    """Yield the numbers that modules keep, or hand to what they make, under a bound's name."""
    for module in model.modules():
        kept = dict(vars(module))
        for value in vars(module).values():
            if isinstance(value, functools.partial):
                kept |= value.keywords
        for name in ATTRIBUTES:
            value = kept.get(name)
            if (
                isinstance(value, int | float)
                and not isinstance(value, bool)
                and np.isfinite(value)
            ):
                yield float(np.float32(value))


check = BinEdges()
