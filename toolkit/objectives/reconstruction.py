"""Squared error of an autoencoder's reconstruction, with its PSNR."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn


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
        return _errors(model.reconstruct(x), x)  # type: ignore[operator]
    given = corrupt(x, torch.randn_like(x))
    values = _errors(model.reconstruct(given), x)  # type: ignore[operator]
    return {**values, "noisy_psnr": _errors(given, x)["psnr"]}


def _errors(restored: Tensor, x: Tensor) -> dict[str, Tensor]:
    squared = (restored - x).square()
    psnr = -10 / math.log(10) * squared.detach().mean().clamp(min=1e-12).log()
    return {"loss": squared.flatten(1).sum(1).mean(), "psnr": psnr}
