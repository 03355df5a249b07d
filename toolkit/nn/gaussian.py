"""Diagonal normals: reparametrised draws, closed-form divergences and log-densities."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

LOG_TWO_PI = math.log(2 * math.pi)


def reparametrize(mean: Tensor, log_var: Tensor, noise: Tensor) -> Tensor:
    """Return the draw of `N(mean, exp(log_var))` that standard-normal `noise` stands for.

    References:
        Auto-Encoding Variational Bayes, arXiv 1312.6114, section 2.4.
    """
    return mean + torch.exp(0.5 * log_var) * noise


def kl_from_standard_normal(mean: Tensor, log_var: Tensor) -> Tensor:
    """Return `KL(N(mean, exp(log_var)) ‖ N(0, I))` in nats, summed to `(batch,)`.

    References:
        Auto-Encoding Variational Bayes, arXiv 1312.6114, appendix B.
    """
    return 0.5 * (mean * mean + torch.exp(log_var) - log_var - 1).flatten(1).sum(1)


def kl_between_normals(
    mean: Tensor, log_var: Tensor, to_mean: Tensor, to_log_var: Tensor
) -> Tensor:
    """Return `KL(N(mean, exp(log_var)) ‖ N(to_mean, exp(to_log_var)))` in nats, `(batch,)`."""
    distance = (mean - to_mean) ** 2 * torch.exp(-to_log_var)
    ratio = log_var - to_log_var
    return 0.5 * (distance + torch.exp(ratio) - ratio - 1).flatten(1).sum(1)


def normal_log_prob(x: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    """Return `log N(x; mean, exp(log_var))` in nats, summed over all axes but the first."""
    terms = (x - mean) ** 2 * torch.exp(-log_var) + log_var + LOG_TWO_PI
    return -0.5 * terms.flatten(1).sum(1)


def bernoulli_log_prob(x: Tensor, logits: Tensor) -> Tensor:
    """Return `Σ x·log p + (1 − x)·log(1 − p)` in nats, `(batch,)`, for `x` in [0, 1].

    Arguments:
        x: Pixels; grey ones count as the probability of white.
        logits: `log p / (1 − p)`, of the same shape.
    """
    return (x * logits - F.softplus(logits)).flatten(1).sum(1)
