from __future__ import annotations

import pytest
import torch
from torch.distributions import Normal

from toolkit.core.errors import UsageError
from toolkit.core.folder import RunFolder
from toolkit.core.recipe import load_recipe
from toolkit.models.vae import VAE
from toolkit.stages import train

DRAWS = 100_000


def vae(**arguments) -> VAE:
    torch.manual_seed(0)
    model = VAE(**{"hidden": (16,), "latent": 3, **arguments}).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def pictures(count: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, 1, 8, 8, generator=generator).double()


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_the_closed_form_divergence_is_the_monte_carlo_mean(likelihood):
    model = vae(likelihood=likelihood)
    noise = torch.randn(DRAWS, 3, generator=torch.Generator().manual_seed(1)).double()
    with torch.no_grad():
        mean, log_var = model.encode(pictures())
        posterior = Normal(mean, (0.5 * log_var).exp())
        z = mean + (0.5 * log_var).exp() * noise
        ratios = (posterior.log_prob(z) - Normal(0.0, 1.0).log_prob(z)).sum(1)
        kl = model.elbo(pictures(), noise[:1])[2]
    error = float(ratios.std() / DRAWS**0.5)
    assert ratios.mean().item() == pytest.approx(kl.item(), abs=4 * error)
    assert error < 0.02
    assert kl.item() > 0.5


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_the_bound_is_below_the_log_likelihood(likelihood):
    model = vae(likelihood=likelihood, latent=1)
    grid = torch.linspace(-8, 8, 4001).double()
    noise = torch.randn(20_000, 1, generator=torch.Generator().manual_seed(1)).double()
    with torch.no_grad():
        for x in pictures(4).split(1):
            joint = model.log_likelihood(x, grid[:, None]) + Normal(0.0, 1.0).log_prob(grid)
            exact = joint.logsumexp(0) + (grid[1] - grid[0]).log()
            assert model.elbo(x, noise)[0].mean() < exact


def test_the_bound_is_likelihood_minus_divergence_whatever_beta():
    model = vae()
    noise = torch.randn(4, 3).double()
    bound, log_likelihood, kl = model.elbo(pictures(4), noise)
    model.beta = 4.0
    assert torch.equal(model.elbo(pictures(4), noise)[0], bound)
    assert torch.equal(bound, log_likelihood - kl)


def test_every_random_number_is_an_input():
    for likelihood in ("bernoulli", "gaussian"):
        model = vae(likelihood=likelihood).float()
        kinds = {
            entry.name: {item.name for item in entry.inputs if item.kind == "noise"}
            for entry in model.entries()
        }
        pixels = {"pixel_noise"} if likelihood == "gaussian" else set()
        assert kinds["sample"] == {"noise"} | pixels
        assert kinds["elbo"] == {"noise"}
        for entry in model.entries():
            given = [item.value for item in entry.inputs]
            once, again = (getattr(model, entry.call)(*given) for _ in range(2))
            torch.testing.assert_close(once, again, rtol=0, atol=0)


def test_a_gaussian_decoder_gives_mean_and_variance_and_samples_from_them():
    model = vae(likelihood="gaussian")
    z = torch.randn(1, 3).double()
    with torch.no_grad():
        mean, log_var = model.decode(z)
        assert mean.shape == log_var.shape == (1, 1, 8, 8)
        assert log_var.min() >= -6
        assert log_var.max() <= 0
        noise = torch.randn(50_000, 1, 8, 8, generator=torch.Generator().manual_seed(1)).double()
        drawn = model.sample_pixels(z.expand(len(noise), -1), noise)
        torch.testing.assert_close(drawn.mean(0), mean[0], rtol=0, atol=0.03)
        torch.testing.assert_close(drawn.var(0), log_var.exp()[0], rtol=0.04, atol=0)
        torch.testing.assert_close(
            model.log_likelihood(drawn[:1], z),
            Normal(mean, (0.5 * log_var).exp()).log_prob(drawn[:1]).sum((1, 2, 3)),
        )


def test_a_label_conditions_both_coders():
    model = vae(classes=10)
    x, z = pictures(2), torch.randn(2, 3).double()
    one, other = torch.tensor([1, 1]), torch.tensor([1, 7])
    for call, given in ((model.encode, x), (model.decode, z)):
        before, after = call(given, one), call(given, other)
        before, after = (v[0] if isinstance(v, tuple) else v for v in (before, after))
        assert torch.equal(before[0], after[0])
        assert not torch.allclose(before[1], after[1])
    names = [[item.name for item in entry.inputs] for entry in model.entries()]
    assert all(inputs[-1] == "label" for inputs in names)
    with pytest.raises(UsageError, match="label"):
        model.sample(z)


def test_the_full_size_is_the_papers():
    model = VAE(size="full")
    assert model.encode(torch.zeros(2, 1, 28, 28))[0].shape == (2, 20)
    assert model.posterior.in_features == 500


@pytest.mark.parametrize("arguments", [{"likelihood": "poisson"}, {"classes": -1}, {"size": "xl"}])
def test_arguments_out_of_range_are_refused(arguments):
    with pytest.raises(UsageError):
        VAE(**arguments)


@pytest.mark.slow
def test_the_recipe_bounds_the_digits(tmp_path):
    metrics = train.run(load_recipe("vae"), RunFolder(tmp_path)).detail["metrics"]
    assert metrics["elbo"] > -19.6
    assert metrics["kl"] > 5
