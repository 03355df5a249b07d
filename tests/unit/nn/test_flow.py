from __future__ import annotations

import torch

from toolkit.nn.actnorm import ActNorm
from toolkit.nn.flow import Chain, Flow, initialize, standard_normal_log_prob
from toolkit.nn.squeeze import Squeeze


def test_the_normals_density_sums_over_every_axis():
    z = torch.randn(3, 2, 4)
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum((1, 2))
    torch.testing.assert_close(standard_normal_log_prob(z), expected)


def test_a_chain_initialises_each_part_from_what_reaches_it():
    torch.manual_seed(0)
    x = 3 + 2 * torch.randn(256, 2)
    first, second = ActNorm(2), ActNorm(2)
    Chain([first, second]).initialize(x)
    assert not torch.equal(first.log_scale, torch.zeros(2))
    torch.testing.assert_close(second.log_scale, torch.zeros(2), rtol=0, atol=1e-4)
    assert second.initialized


def test_initialize_passes_over_what_has_nothing_to_initialise():
    squeeze = Squeeze()
    initialize(squeeze, torch.zeros(1, 1, 2, 2))
    assert not list(squeeze.parameters())


def test_a_flow_is_initialised_and_samples_through_its_inverse():
    torch.manual_seed(0)
    flow = Flow(Chain([ActNorm(2)]))
    flow.initialize(4 + 0.5 * torch.randn(4096, 2))
    x = flow.sample(torch.randn(4096, 2))
    torch.testing.assert_close(x.mean(0), torch.full((2,), 4.0), rtol=0, atol=0.05)
    torch.testing.assert_close(x.std(0), torch.full((2,), 0.5), rtol=0, atol=0.05)


def test_a_density_integrates_to_one():
    torch.manual_seed(0)
    flow = Flow(ActNorm(2)).double()
    flow.initialize(1 + 0.5 * torch.randn(64, 2, dtype=torch.float64))
    axis = torch.linspace(-4, 6, 401, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    mass = flow.log_prob(grid).exp().sum() * (10 / 400) ** 2
    torch.testing.assert_close(mass, torch.ones((), dtype=torch.float64), rtol=0, atol=1e-6)
