"""Exponential divergence between an integrand and the density that its points are drawn from."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def objective(model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return `∫ p · log²(p / q)` as `loss`, with `p` the normalised integrand, `q` the density.

    The points are drawn from `q` for this one step and held fixed. `deviation` is the relative
    uncertainty of the integral from one evaluation: that from `n` is smaller by `√n`.

    Arguments:
        model: Has `inverse(noise)`, `log_prob(x)` and `log_integrand(x)`, in nats.
        batch: The noise, `x`.

    References:
        i-flow: High-dimensional Integration and Sampling with Normalizing Flows, arXiv 2001.05486.
    """
    with torch.no_grad():
        points, _ = model.inverse(batch["x"])  # type: ignore[operator]
        log_integrand = model.log_integrand(points)  # type: ignore[operator]
    log_prob = model.log_prob(points)  # type: ignore[operator]
    weight = torch.exp(log_integrand - log_prob.detach())
    integral = weight.mean()
    distance = log_integrand - torch.log(integral) - log_prob
    return {
        "loss": (weight / integral * distance**2).mean(),
        "deviation": weight.std(correction=0) / integral,
    }
