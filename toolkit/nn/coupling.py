"""Affine coupling: one half of the channels scales and shifts the other."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Scale = Literal["sigmoid", "exponential"]
BOUND = 3.0


def bounded(raw: Tensor) -> Tensor:
    """Return log-scales within -3 and 3, by `3 · tanh(raw / 3)`.

    Without a bound, a network far from its training data gives scales near zero, and the inverse
    divides by them: one step's huge value is the next step's, and a sample ends as NaN.

    References:
        Understanding and Mitigating Exploding Inverses in Invertible Neural Networks,
        arXiv 2006.09347.
    """
    return BOUND * torch.tanh(raw / BOUND)


class AffineCoupling(nn.Module):
    """Transform one half of axis 1, given the other half: `y_a = (x_a + shift(x_b)) · scale(x_b)`.

    Arguments:
        network: Maps `x_b` (with `context` concatenated on axis 1) to raw log-scales and shifts,
            `2 · channels of x_a` in all; it must not mix samples.
        scale: `sigmoid` (Glow): `sigmoid(raw + 2)`; `exponential` (RealNVP): `exp(raw)`; `raw` is
            bounded in both.
        swap: Transform the second half instead of the first.

    References:
        Density estimation using Real NVP, arXiv 1605.08803.
        Glow: Generative Flow with Invertible 1x1 Convolutions, arXiv 1807.03039.
    """

    def __init__(self, network: nn.Module, *, scale: Scale = "sigmoid", swap: bool = False) -> None:
        super().__init__()
        self.network = network
        self.scale = scale
        self.swap = swap

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return `y` of the shape of `x` and `log_det` of shape `(batch,)`."""
        moved, kept = self._halves(x)
        scale, log_scale, shift = self._affine(kept, context)
        return self._join((moved + shift) * scale, kept), log_scale.flatten(1).sum(1)

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return `x` and the inverse's `log_det`."""
        moved, kept = self._halves(y)
        scale, log_scale, shift = self._affine(kept, context)
        return self._join(moved / scale - shift, kept), -log_scale.flatten(1).sum(1)

    def _halves(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first, second = x.chunk(2, dim=1)
        return (second, first) if self.swap else (first, second)

    def _join(self, moved: Tensor, kept: Tensor) -> Tensor:
        return torch.cat((kept, moved) if self.swap else (moved, kept), dim=1)

    def _affine(self, kept: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        given = kept if context is None else torch.cat((kept, context), dim=1)
        raw, shift = self.network(given).chunk(2, dim=1)
        raw = bounded(raw)
        if self.scale == "sigmoid":
            return torch.sigmoid(raw + 2), F.logsigmoid(raw + 2), shift
        return torch.exp(raw), raw, shift
