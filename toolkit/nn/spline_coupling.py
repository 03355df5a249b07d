"""Spline coupling: some features set the knots of the others' monotonic splines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from toolkit.core.errors import UsageError
from toolkit.nn.networks import Perceptron
from toolkit.nn.splines import piecewise_linear, piecewise_quadratic, rational_quadratic


class Spline(Protocol):
    """A monotonic function of one variable with `parameters` raw numbers."""

    @property
    def parameters(self) -> int:
        """Raw numbers per feature."""

    def __call__(self, x: Tensor, raw: Tensor, *, inverse: bool) -> tuple[Tensor, Tensor]:
        """Return values and log-determinants like `x`; `raw` has one more axis, `parameters`."""


@dataclass(frozen=True, slots=True)
class Linear:
    """Piecewise linear on the unit interval, with equal bins.

    Arguments:
        bins: Number of bins.

    References:
        Neural Importance Sampling, arXiv 1808.03856.
    """

    bins: int

    @property
    def parameters(self) -> int:
        """Raw numbers per feature: a share for every bin."""
        return self.bins

    def __call__(self, x: Tensor, raw: Tensor, *, inverse: bool) -> tuple[Tensor, Tensor]:
        """Return values and log-determinants like `x`."""
        return piecewise_linear(x, raw, inverse=inverse)


@dataclass(frozen=True, slots=True)
class Quadratic:
    """Piecewise quadratic, with bins of their own widths.

    Arguments:
        bins: Number of bins.
        bound: Half the length of the interval around zero, beyond which the spline is the identity;
            0 for the unit interval.

    References:
        Neural Importance Sampling, arXiv 1808.03856.
    """

    bins: int
    bound: float = 0.0

    @property
    def parameters(self) -> int:
        """Raw numbers per feature: widths, and the densities at the knots."""
        return 2 * self.bins + (-1 if self.bound else 1)

    def __call__(self, x: Tensor, raw: Tensor, *, inverse: bool) -> tuple[Tensor, Tensor]:
        """Return values and log-determinants like `x`."""
        widths, densities = raw[..., : self.bins], raw[..., self.bins :]
        low, high = (-self.bound, self.bound) if self.bound else (0.0, 1.0)
        return piecewise_quadratic(
            x,
            widths,
            densities,
            inverse=inverse,
            left=low,
            right=high,
            bottom=low,
            top=high,
            tails="linear" if self.bound else "none",
        )


@dataclass(frozen=True, slots=True)
class RationalQuadratic:
    """Rational quadratic, with bins of their own widths and heights.

    Arguments:
        bins: Number of bins.
        bound: Half the length of the interval around zero, beyond which the spline is the identity;
            0 for the unit interval.

    References:
        Neural Spline Flows, arXiv 1906.04032.
    """

    bins: int
    bound: float = 0.0

    @property
    def parameters(self) -> int:
        """Raw numbers per feature: widths, heights, and the derivatives at the knots."""
        return 3 * self.bins + (-1 if self.bound else 1)

    def __call__(self, x: Tensor, raw: Tensor, *, inverse: bool) -> tuple[Tensor, Tensor]:
        """Return values and log-determinants like `x`."""
        bins = self.bins
        widths, heights = raw[..., :bins], raw[..., bins : 2 * bins]
        low, high = (-self.bound, self.bound) if self.bound else (0.0, 1.0)
        return rational_quadratic(
            x,
            widths,
            heights,
            raw[..., 2 * bins :],
            inverse=inverse,
            left=low,
            right=high,
            bottom=low,
            top=high,
            tails="linear" if self.bound else "none",
        )


class SplineCoupling(nn.Module):
    """Transform some features by splines whose knots a network makes from the others.

    Arguments:
        spline: The family of splines.
        moved: Whether each feature is transformed; both kinds occur.
        hidden: Units of each hidden layer of the network.
        layers: Number of its hidden layers.

    Raises:
        UsageError: No feature is moved, or all are.

    References:
        Neural Importance Sampling, arXiv 1808.03856.
    """

    moved: Tensor
    kept: Tensor
    order: Tensor

    def __init__(self, spline: Spline, moved: Sequence[bool], *, hidden: int, layers: int) -> None:
        super().__init__()
        places = torch.tensor(moved, dtype=torch.bool)
        if places.all() or not places.any():
            raise UsageError(
                f"a coupling moves some of {len(moved)} features by the others, not {moved}",
                next_step="take 2 features or more",
            )
        self.spline = spline
        indices = torch.arange(len(moved))
        both = torch.cat([indices[places], indices[~places]])
        # They follow from the arguments: no weights.
        self.register_buffer("moved", indices[places], persistent=False)
        self.register_buffer("kept", indices[~places], persistent=False)
        self.register_buffer("order", both.argsort(), persistent=False)
        self.network = Perceptron(
            len(self.kept), len(self.moved) * spline.parameters, hidden=hidden, layers=layers
        )

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Return `y` of the shape of `x`, `(batch, features)`, and `log_det`, `(batch,)`."""
        return self._apply_spline(x, inverse=False)

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Return `x` and the inverse's `log_det`."""
        return self._apply_spline(y, inverse=True)

    def _apply_spline(self, x: Tensor, *, inverse: bool) -> tuple[Tensor, Tensor]:
        moved, kept = x.index_select(1, self.moved), x.index_select(1, self.kept)
        raw = self.network(kept).reshape(-1, moved.shape[1], self.spline.parameters)
        result, log_det = self.spline(moved, raw, inverse=inverse)
        joined = torch.cat([result, kept], dim=1)
        return joined.index_select(1, self.order), log_det.sum(1)
