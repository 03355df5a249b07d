from __future__ import annotations

import pytest
import torch

from toolkit.nn.actnorm import ActNorm


def test_it_is_the_identity_before_its_first_batch():
    x = 5 + 3 * torch.randn(8, 4, 2, 2)
    actnorm = ActNorm(4)
    y, log_det = actnorm(x)
    assert torch.equal(y, x)
    assert torch.equal(log_det, torch.zeros(8))
    assert torch.equal(actnorm.inverse(x)[0], x)
    assert not actnorm.initialized


@pytest.mark.parametrize("shape", [(64, 4), (64, 4, 3, 3)])
def test_initialize_normalises_every_channel_of_the_first_batch(shape):
    torch.manual_seed(0)
    x = 5 + torch.arange(1.0, 5).view(1, 4, *[1] * (len(shape) - 2)) * torch.randn(shape)
    actnorm = ActNorm(4)
    actnorm.initialize(x)
    y, _ = actnorm(x)
    axes = [axis for axis in range(y.dim()) if axis != 1]
    torch.testing.assert_close(y.mean(axes), torch.zeros(4), rtol=0, atol=1e-5)
    torch.testing.assert_close(y.std(axes, correction=0), torch.ones(4), rtol=0, atol=1e-5)
    assert actnorm.initialized


def test_later_batches_do_not_move_it():
    torch.manual_seed(0)
    actnorm = ActNorm(4).train()
    actnorm.initialize(torch.randn(16, 4))
    before = {name: value.clone() for name, value in actnorm.state_dict().items()}
    actnorm(100 + torch.randn(16, 4))
    for name, value in actnorm.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_constant_channel_stays_finite():
    x = torch.ones(16, 2)
    actnorm = ActNorm(2)
    actnorm.initialize(x)
    y, log_det = actnorm(x)
    assert y.isfinite().all()
    assert log_det.isfinite().all()
