"""Does a density over one or two dimensions integrate to one?"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from toolkit.checks import _draw
from toolkit.checks._judge import finding, own_cases
from toolkit.core.case import Case
from toolkit.core.entry import Input
from toolkit.core.outcome import Finding
from toolkit.core.protocols import Source, Subject
from toolkit.runtime.limits import FLOOR

if TYPE_CHECKING:
    from torch import Tensor

NAME = "integral"
# Even numbers: the grid falls into coarser ones that say how exact it is.
POINTS = {1: 512, 2: 64}
# A larger error of the quadrature says nothing about the density.
COARSE = 0.1
REACH = 5.0


class Integral:
    """Sum the density over a grid, by the trapezoidal rule, for one context.

    Between two bounds the grid is even. Over an unbounded axis it is even in t, where
    `x = centre + spread · sinh(t)` and |t| ≤ 5: fine on the data, 74 spreads to either side; next
    to a single bound, `x = bound ± spread · exp(t)`. Every other point of each axis makes 2 or 4
    coarser grids. The largest difference of their sums is the quadrature's own error, with the
    tail that a density falling by e per unit of t has beyond the outermost points.
    """

    def prepare(self, source: Source) -> Sequence[Case]:
        """Make the case `grid` for a flow's `log_prob` of 1 or 2 features.

        `extra` holds the weights, and the quadrature's own error with the oracle's values.
        """
        items = [item for item in source.entry.inputs if item.kind == "data"]
        if (
            source.signature.family != "flow"
            or source.entry.name != "log_prob"
            or len(items) != 1
            or (size := int(np.prod(items[0].shape[1:]))) not in POINTS
            or items[0].batch_axis
        ):
            return []
        real = _draw.real(source, 256)
        item = items[0]
        like = real[item.name] if source.data is not None or item.value is None else item.value
        columns = like.double().reshape(-1, size)
        axes = [_axis(item, column, POINTS[size]) for column in columns.unbind(1)]
        grid, weights = _product([x for x, _, _ in axes]), _product([w for _, w, _ in axes]).prod(1)
        points = grid.to(real[item.name].dtype).reshape(-1, *item.shape[1:])
        given = {
            name: tensor[:1].expand(len(points), *tensor.shape[1:]).clone()
            for name, tensor in real.items()
        }
        case = source.answer(NAME, "grid", {**given, item.name: points})
        held = weights.numpy() * np.exp(case.oracle["log_prob"])
        extra = {
            "weights": weights.numpy(),
            "error": _quadrature_error(held, [step for _, _, step in axes]),
        }
        return [dataclasses.replace(case, extra=extra)]

    def judge(self, subject: Subject) -> Finding | None:
        """Answer with the difference from the oracle's integral, which must be one itself."""
        case = next(iter(own_cases(subject, NAME)), None)
        if case is None:
            return None
        if subject.budget and "nats" not in subject.budget:
            reason = f"{subject.variant} has a budget, but none in nats"
            return finding(NAME, subject, "skipped", reason=reason)
        weights = case.extra["weights"]
        oracle, eager = case.oracle["log_prob"], case.eager["log_prob"]
        density = subject.run(case.inputs)["log_prob"].astype(np.float64)
        mass = weights * np.exp(oracle)
        total, error = float(mass.sum()), float(case.extra["error"].item())
        # Where the oracle has mass and eager no number, eager's error is no measure.
        known = (mass > 0) & np.isfinite(eager)
        value = abs(float((weights * np.exp(density) - mass)[known].sum()))
        limit = _limit(subject, mass[known], oracle[known], eager[known])
        whole, spoiled = abs(total - 1) <= error, int(np.sum(np.isnan(density) & ~np.isnan(eager)))
        says = ", too coarse to tell" * (error > COARSE) if whole else ": the model's is not one"
        return finding(
            NAME,
            subject,
            "ok" if value <= limit and whole and not spoiled else "failed",
            value=value,
            limit=limit,
            unit="absolute",
            reason=f"the oracle's integral is {total:.6g} ± {error:.2g} on {len(weights)} points"
            f"{says}; the graph's differs from it by {value:.3g}"
            + (f", {spoiled} points are NaN" if spoiled else ""),
            detail={"integral": total, "quadrature_error": error, "nan": spoiled},
        )


def _axis(item: Input, column: Tensor, count: int) -> tuple[Tensor, Tensor, float]:
    """Return points along one axis, their weights, and the step in t; infinite between bounds."""
    import torch

    low, high = item.low, item.high
    if low is not None and high is not None:
        step = (high - low) / count
        x = low + step * (torch.arange(count, dtype=torch.float64) + 0.5)
        return x, torch.full_like(x, step), math.inf
    one_sided = (low is None) != (high is None)
    t = torch.linspace(-(1 + one_sided) * REACH, REACH, count, dtype=torch.float64)
    spread = float(column.std()) / 2 or 1.0
    step = float(t[1] - t[0])
    if low is None and high is None:
        x = float(column.median()) + spread * torch.sinh(t)
        return x, spread * torch.cosh(t) * step, step
    bound, sign = (low, 1.0) if low is not None else (high or 0.0, -1.0)
    scale = float((column - bound).abs().median()) or 1.0
    x = bound + sign * scale * torch.exp(t)
    return x, scale * torch.exp(t) * step, step


def _product(axes: Sequence[Tensor]) -> Tensor:
    """Return every combination of the axes' values, `(points, axes)`, the last axis fastest."""
    import torch

    return torch.cartesian_prod(*axes).reshape(-1, len(axes))


def _quadrature_error(mass: np.ndarray, steps: Sequence[float]) -> np.ndarray:
    """Return how far the coarser grids' sums are from the whole, and what is beyond the border.

    It is never below what rounding the points to float32 does.
    """
    size = len(steps)
    grid = mass.reshape((POINTS[size],) * size)
    whole = grid.sum()
    coarse = [
        grid[tuple(slice(offset, None, 2) for offset in offsets)].sum() * 2**size
        for offsets in np.ndindex((2,) * size)
    ]
    beyond = sum(np.take(grid, [0, -1], axis).sum() / step for axis, step in enumerate(steps))
    floor = FLOOR * float(np.finfo(np.float32).eps)
    return np.array(max(np.max(np.abs(np.array(coarse) - whole)) + beyond, floor))


def _limit(subject: Subject, mass: np.ndarray, oracle: np.ndarray, eager: np.ndarray) -> float:
    """Return what the errors in nats that are allowed, weighed by the density, add up to."""
    own = float((mass * np.abs(eager - oracle)).sum())
    floor = FLOOR * float(np.finfo(np.float32).eps) * float((mass * np.abs(oracle)).sum())
    if subject.budget:
        return float(np.expm1(subject.budget["nats"]) * mass.sum())
    return max(subject.k * own, floor)


check = Integral()
