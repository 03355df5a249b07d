"""Squared error of an autoencoder's reconstruction, with its PSNR."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from toolkit.objectives._errors import squared_errors


def objective(model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the mean squared error per sample, summed over its elements, as `loss`, and `psnr`.

    The PSNR is in decibels for a peak of 1. A model that corrupts its inputs
    (`model.corrupt(x, noise)`, standard-normal noise) is given the corrupted ones and held
    against the clean ones; `noisy_psnr` is then the PSNR of its inputs.

    Arguments:
        model: Has `reconstruct(x)`, of the shape of `x`.
        batch: `x`.
    """
    x = batch["x"]
    if not callable(corrupt := getattr(model, "corrupt", None)):
        return squared_errors(model.reconstruct(x), x)  # type: ignore[operator]
    given = corrupt(x, torch.randn_like(x))
    values = squared_errors(model.reconstruct(given), x)  # type: ignore[operator]
    return {**values, "noisy_psnr": squared_errors(given, x)["psnr"]}
