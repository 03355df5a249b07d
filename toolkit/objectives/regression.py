"""Squared error of a model that gives numbers, with its PSNR."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from toolkit.objectives._errors import squared_errors


def objective(model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the mean squared error per sample, summed over its elements, as `loss`, and `psnr`.

    The PSNR is in decibels for a peak of 1.

    Arguments:
        model: Maps `x` to numbers of the shape of `value`.
        batch: `x`, and `value`, what the model is to give.
    """
    return squared_errors(model(batch["x"]), batch["value"])
