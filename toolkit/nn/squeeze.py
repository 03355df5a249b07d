"""Squeeze: trade height and width for channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Squeeze(nn.Module):
    """Turn `(batch, c, h, w)` into `(batch, c·f², h/f, w/f)`; volume is preserved.

    Arguments:
        factor: f; height and width must be multiples of it.

    References:
        Density estimation using Real NVP, arXiv 1605.08803, section 3.6.
    """

    def __init__(self, factor: int = 2) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Return the squeezed picture and a `log_det` of zeros, `(batch,)`."""
        return F.pixel_unshuffle(x, self.factor), torch.zeros_like(x[:, 0, 0, 0])

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Return the picture and a `log_det` of zeros."""
        return F.pixel_shuffle(y, self.factor), torch.zeros_like(y[:, 0, 0, 0])
