from __future__ import annotations

import pytest
import torch
from torch.distributions import Bernoulli, Normal

from toolkit.core.errors import UsageError
from toolkit.core.folder import RunFolder
from toolkit.core.recipe import load_recipe
from toolkit.models.sequence_vae import SequenceVAE
from toolkit.stages import train


@pytest.fixture
def model() -> SequenceVAE:
    torch.manual_seed(0)
    model = SequenceVAE(steps=4, features=3, hidden=8, latent=2).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


@pytest.fixture
def given() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(5, 1, 4, 3, generator=generator).double()
    return x, torch.randn(5, 4, 2, generator=generator).double()


def test_the_bound_is_the_sum_over_steps(model, given):
    x, noise = given
    bound, log_likelihood, kl = model.elbo(x, noise)
    state, expected = model.start.expand(5, -1), torch.zeros(5).double()
    for t in range(4):
        row = x[:, 0, t]
        mean, log_var = model.posterior(torch.cat([row, state], 1)).chunk(2, 1)
        prior_mean, prior_log_var = model.prior(state).chunk(2, 1)
        posterior = Normal(mean, (0.5 * log_var).exp())
        prior = Normal(prior_mean, (0.5 * prior_log_var).exp())
        z = mean + posterior.scale * noise[:, t]
        pixels = Bernoulli(logits=model.decoder(torch.cat([z, state], 1)), validate_args=False)
        divergence = torch.distributions.kl_divergence(posterior, prior).sum(1)
        expected = expected + pixels.log_prob(row).sum(1) - divergence
        state = model.cell(z, state)
    torch.testing.assert_close(bound, expected)
    torch.testing.assert_close(bound, log_likelihood - kl)


def test_a_steps_share_of_the_bound_does_not_depend_on_later_steps(model, given):
    x, noise = given
    whole = torch.stack(model.elbo_steps(x, noise))
    begun = torch.stack(model.elbo_steps(x[:, :, :2], noise[:, :2]))
    torch.testing.assert_close(whole[:, :, :2], begun)
    changed = x.clone()
    changed[:, :, 2] = 1 - changed[:, :, 2]
    other = torch.stack(model.elbo_steps(changed, noise))
    torch.testing.assert_close(other[:, :, :2], begun)
    assert (other[:, :, 2:] != whole[:, :, 2:]).all()


def test_reconstructing_is_decoding_the_mean_codes(model, given):
    x, _ = given
    torch.testing.assert_close(model.reconstruct(x), model.decode(model.encode(x)[0]))


def test_samples_are_decoded_draws_of_the_priors(model, given):
    _, noise = given
    first_mean, first_log_var = model.prior(model.start[None]).chunk(2, 1)
    z = (first_mean + (0.5 * first_log_var).exp() * noise[:, 0])[:, None]
    torch.testing.assert_close(model.sample(noise)[:, :, :1], model.decode(z))
    assert model.sample(noise).shape == (5, 1, 4, 3)


def test_sizes_are_checked():
    assert SequenceVAE(size="full").shape == (1, 28, 28)
    with pytest.raises(UsageError):
        SequenceVAE(hidden=-1)


@pytest.mark.slow
def test_the_recipe_bounds_the_digits(tmp_path):
    metrics = train.run(load_recipe("sequence_vae"), RunFolder(tmp_path)).detail["metrics"]
    assert metrics["elbo"] > -22.2
    assert metrics["kl"] > 3
