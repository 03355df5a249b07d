from __future__ import annotations

import pytest
import torch

from toolkit.core.errors import UsageError
from toolkit.models.glow import Glow


def glow(**arguments) -> Glow:
    torch.manual_seed(0)
    return Glow(**{"depth": 1, "width": 8, **arguments}).eval()


@pytest.mark.parametrize("scales", [1, 2, 3])
def test_the_noise_of_all_scales_is_one_tensor(scales):
    model = glow(scales=scales)
    z, _ = model(torch.rand(2, 1, 8, 8))
    assert z.shape == (2, 64)
    assert model.inverse(z)[0].shape == (2, 1, 8, 8)


def test_colour_pictures_are_taken():
    z, _ = glow(channels=3)(torch.rand(2, 3, 8, 8))
    assert z.shape == (2, 192)


def test_samples_lie_in_the_datas_range_and_are_the_clamped_inverse():
    model = glow()
    noise = 5 * torch.randn(16, 64)
    x, _ = model.inverse(noise)
    assert x.min() < 0
    assert x.max() > 1
    assert torch.equal(model.sample(noise), x.clamp(0, 1))


def test_initialising_brings_the_noise_near_the_normal():
    torch.manual_seed(0)
    x = torch.rand(256, 1, 8, 8) * 0.1 + 0.6
    model = glow(depth=4)
    before = model.log_prob(x).mean()
    model.initialize(x)
    z, _ = model(x)
    assert model.log_prob(x).mean() > before
    assert 0.5 < z.std() < 1.5


def test_a_size_that_the_scales_do_not_divide_is_refused():
    with pytest.raises(UsageError, match="size"):
        glow(size=6, scales=2)
