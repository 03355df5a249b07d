"""Invertible 1x1 convolution: a learned, generalised permutation of the channels."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class InvertibleConv1x1(nn.Module):
    """Multiply the channels of every position by one matrix, at first a random rotation.

    Determinant and inverse are functions of the weight alone: an export evaluates them once.

    Arguments:
        channels: Size of axis 1.

    References:
        Glow: Generative Flow with Invertible 1x1 Convolutions, arXiv 1807.03039, section 3.2.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        rotation, _ = torch.linalg.qr(torch.randn(channels, channels))
        self.weight = nn.Parameter(rotation.contiguous())

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Return `y` of shape `(batch, channels, height, width)` and `log_det`, `(batch,)`."""
        return F.conv2d(x, self.weight[:, :, None, None]), self._log_det(x)

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Return `x` and the inverse's `log_det`."""
        weight = torch.linalg.inv(self.weight)
        return F.conv2d(y, weight[:, :, None, None]), -self._log_det(y)

    def _log_det(self, x: Tensor) -> Tensor:
        positions = prod(x.shape[2:])
        log_det: Tensor = torch.linalg.slogdet(self.weight).logabsdet * positions
        return log_det.expand(x.shape[0])
