from __future__ import annotations

import torch

from toolkit.nn.actnorm import ActNorm
from toolkit.nn.coupling import bounded
from toolkit.nn.flow import Chain
from toolkit.nn.multiscale import ConditionalNormal, MultiScale
from toolkit.nn.squeeze import Squeeze


def multiscale() -> MultiScale:
    return MultiScale([Chain([Squeeze(), ActNorm(4)]), ActNorm(2)], [(4, 2, 2), (2, 2, 2)])


def test_a_fresh_one_orders_the_noise_as_it_left():
    x = torch.arange(16.0).view(1, 1, 4, 4)
    z, _ = multiscale()(x)
    squeezed, _ = Squeeze()(x)
    assert torch.equal(z, torch.cat([squeezed[:, 2:].flatten(1), squeezed[:, :2].flatten(1)], 1))


def test_initialize_reaches_every_scale():
    torch.manual_seed(0)
    made = multiscale()
    made.initialize(2 + 3 * torch.randn(32, 1, 4, 4))
    flags = [part.initialized for part in made.modules() if isinstance(part, ActNorm)]
    assert len(flags) == 2
    assert all(flags)


def test_the_learned_prior_standardises_by_what_it_predicts():
    prior = ConditionalNormal(1)
    with torch.no_grad():
        prior.network.conv.bias.copy_(torch.tensor([3.0, 0.5]))
    noise, log_det = prior(torch.full((2, 1, 1, 1), 4.0), torch.zeros(2, 1, 1, 1))
    log_deviation = bounded(torch.tensor(0.5))
    torch.testing.assert_close(noise.flatten(), torch.exp(-log_deviation).expand(2))
    torch.testing.assert_close(log_det, -log_deviation.expand(2))
