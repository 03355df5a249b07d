"""Squared errors of what a model gives back."""

from __future__ import annotations

import math

from torch import Tensor


def squared_errors(given: Tensor, wanted: Tensor) -> dict[str, Tensor]:
    """Return the squared error per sample, summed over its elements, as `loss`, and `psnr`.

    The PSNR is in decibels for a peak of 1; a perfect answer's is 120.
    """
    squared = (given - wanted).square()
    psnr = -10 / math.log(10) * squared.detach().mean().clamp(min=1e-12).log()
    return {"loss": squared.flatten(1).sum(1).mean(), "psnr": psnr}
