"""Negative evidence lower bound of a variational autoencoder, its divergence weighted by beta."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def objective(model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return `β·KL − log p(x|z)` as `loss` and the bound's parts, all in nats per sample.

    β is `model.beta` (1 where there is none); `elbo`, the bound itself, weighs the divergence
    by 1 whatever β is.

    Arguments:
        model: Has `noise_shape` and `elbo(x, noise)`, or `elbo(x, noise, label)` where it knows
            `classes`; returns `elbo`, `log_likelihood` and `kl`, each `(batch,)`.
        batch: `x`, and `label` where the model is conditioned on it.

    References:
        Auto-Encoding Variational Bayes, arXiv 1312.6114. beta-VAE, Higgins et al., ICLR 2017.
    """
    x = batch["x"]
    given = [batch["label"]] if getattr(model, "classes", 0) else []
    noise = torch.randn(len(x), *model.noise_shape, dtype=x.dtype, device=x.device)  # type: ignore[misc]
    bound, log_likelihood, kl = model.elbo(x, noise, *given)  # type: ignore[operator]
    beta = float(getattr(model, "beta", 1.0))
    return {
        "loss": (beta * kl - log_likelihood).mean(),
        "elbo": bound.mean(),
        "log_likelihood": log_likelihood.mean(),
        "kl": kl.mean(),
    }
