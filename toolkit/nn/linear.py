"""Invertible linear maps of vectors."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class InvertibleLinear(nn.Module):
    """Multiply a vector by one matrix and shift it: `y = A x + b`, `A` at first a rotation.

    Determinant and inverse are functions of the weight alone: an export evaluates them once.

    Arguments:
        features: Length of a vector.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        rotation, _ = torch.linalg.qr(torch.randn(features, features))
        self.weight = nn.Parameter(rotation.contiguous())
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Return `y` of shape `(batch, features)` and `log|det A|` of shape `(batch,)`."""
        return F.linear(x, self.weight, self.bias), self._log_det(x)

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Return `x` and the inverse's `log_det`."""
        weight = torch.linalg.inv(self.weight)
        return F.linear(y, weight, -weight @ self.bias), -self._log_det(y)

    def _log_det(self, x: Tensor) -> Tensor:
        log_det: Tensor = torch.linalg.slogdet(self.weight).logabsdet
        return log_det.expand(x.shape[0])
