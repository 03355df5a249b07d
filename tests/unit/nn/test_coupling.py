from __future__ import annotations

import pytest
import torch

from toolkit.nn.coupling import AffineCoupling, bounded
from toolkit.nn.flow import Chain
from toolkit.nn.networks import Perceptron


def coupling(**arguments) -> AffineCoupling:
    torch.manual_seed(0)
    made = AffineCoupling(Perceptron(2, 4, hidden=8, layers=1), **arguments)
    torch.nn.init.normal_(made.network[-1].weight)
    return made


@pytest.mark.parametrize(("swap", "kept"), [(False, slice(2, 4)), (True, slice(0, 2))])
def test_the_half_that_conditions_is_left_as_it_is(swap, kept):
    x = torch.randn(5, 4)
    y, _ = coupling(swap=swap)(x)
    assert torch.equal(y[:, kept], x[:, kept])
    moved = slice(0, 2) if swap is False else slice(2, 4)
    assert (y[:, moved] != x[:, moved]).all()


def test_a_fresh_sigmoid_coupling_scales_by_sigmoid_of_two():
    made = AffineCoupling(Perceptron(2, 4, hidden=8, layers=1))
    x = torch.randn(5, 4)
    y, log_det = made(x)
    scale = torch.sigmoid(torch.tensor(2.0))
    torch.testing.assert_close(y[:, :2], x[:, :2] * scale)
    torch.testing.assert_close(log_det, (2 * scale.log()).expand(5))


@pytest.mark.parametrize("scale", ["sigmoid", "exponential"])
def test_far_inputs_stay_finite(scale):
    made = coupling(scale=scale)
    for x in (torch.full((1, 4), 1e4), torch.full((1, 4), -1e4)):
        y, log_det = made(x)
        assert y.isfinite().all()
        assert log_det.isfinite().all()


@pytest.mark.parametrize("scale", ["sigmoid", "exponential"])
def test_many_wild_couplings_still_invert_to_finite_values(scale):
    torch.manual_seed(0)
    chain = Chain(
        AffineCoupling(Perceptron(2, 4, hidden=8, layers=1), scale=scale, swap=index % 2 == 1)
        for index in range(16)
    )
    for parameter in chain.parameters():
        torch.nn.init.normal_(parameter)
    x, log_det = chain.inverse(10 * torch.randn(64, 4))
    assert x.isfinite().all()
    assert log_det.isfinite().all()


def test_log_scales_are_bounded_and_small_ones_kept():
    far = torch.tensor([-1e6, 1e6])
    assert bounded(far).tolist() == [-3, 3]
    torch.testing.assert_close(bounded(torch.tensor(0.1)), torch.tensor(0.1), rtol=1e-3, atol=0)
