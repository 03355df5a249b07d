from __future__ import annotations

import pytest
import torch
from torch.distributions import Bernoulli, Normal, kl_divergence

from toolkit.nn.gaussian import (
    bernoulli_log_prob,
    kl_between_normals,
    kl_from_standard_normal,
    normal_log_prob,
    reparametrize,
)


@pytest.fixture
def normals() -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(3, 5, generator=generator).double() for _ in range(4))


def normal(mean: torch.Tensor, log_var: torch.Tensor) -> Normal:
    return Normal(mean, (0.5 * log_var).exp())


def test_closed_form_divergences_are_torchs(normals):
    mean, log_var, other_mean, other_log_var = normals
    to_standard = kl_divergence(normal(mean, log_var), Normal(0.0, 1.0)).sum(1)
    between = kl_divergence(normal(mean, log_var), normal(other_mean, other_log_var)).sum(1)
    torch.testing.assert_close(kl_from_standard_normal(mean, log_var), to_standard)
    torch.testing.assert_close(kl_between_normals(*normals), between)


def test_closed_form_divergence_is_the_monte_carlo_mean(normals):
    mean, log_var = normals[0][:1], normals[1][:1]
    noise = torch.randn(400_000, 5, generator=torch.Generator().manual_seed(1)).double()
    z = reparametrize(mean, log_var, noise)
    zeros = torch.zeros_like(mean)
    ratios = normal_log_prob(z, mean, log_var) - normal_log_prob(z, zeros, zeros)
    error = float(ratios.std() / len(ratios) ** 0.5)
    assert ratios.mean().item() == pytest.approx(
        kl_from_standard_normal(mean, log_var).item(), abs=4 * error
    )
    assert error < 0.01


def test_the_draw_has_the_mean_and_variance_asked_for(normals):
    mean, log_var = normals[0][:1], normals[1][:1]
    z = reparametrize(mean, log_var, torch.tensor([[-1.0], [1.0]]).double())
    torch.testing.assert_close(z.mean(0, keepdim=True), mean)
    torch.testing.assert_close(z.var(0, correction=0, keepdim=True), log_var.exp())


def test_log_densities_are_torchs(normals):
    x, mean, log_var, logits = normals
    torch.testing.assert_close(
        normal_log_prob(x, mean, log_var), normal(mean, log_var).log_prob(x).sum(1)
    )
    grey = x.sigmoid()
    expected = Bernoulli(logits=logits, validate_args=False).log_prob(grey).sum(1)
    torch.testing.assert_close(bernoulli_log_prob(grey, logits), expected)
