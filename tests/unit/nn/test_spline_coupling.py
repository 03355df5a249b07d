from __future__ import annotations

import pytest
import torch
from torch import nn

from toolkit.core.errors import UsageError
from toolkit.nn.spline_coupling import Linear, Quadratic, RationalQuadratic, SplineCoupling

MOVED = [True, False, True, False, False]
BOUND = 2.0


def coupling(spline) -> SplineCoupling:
    torch.manual_seed(0)
    made = SplineCoupling(spline, MOVED, hidden=8, layers=1).double()
    nn.init.normal_(made.network[-1].weight)
    return made


@pytest.mark.parametrize("spline", [Linear(4), Quadratic(4), RationalQuadratic(4)])
def test_only_the_moved_features_move_and_stay_in_the_unit_cube(spline):
    x = torch.rand(64, 5, dtype=torch.float64)
    y, _ = coupling(spline)(x)
    moved = torch.tensor(MOVED)
    assert torch.equal(y[:, ~moved], x[:, ~moved])
    assert (y[:, moved] != x[:, moved]).all()
    assert y.min() >= 0
    assert y.max() <= 1


@pytest.mark.parametrize("spline", [Linear(4), Quadratic(4), RationalQuadratic(4)])
def test_the_corners_of_the_cube_stay_where_they_are(spline):
    made = coupling(spline)
    for corner in (torch.zeros(1, 5).double(), torch.ones(1, 5).double()):
        for call in (made.forward, made.inverse):
            value, log_det = call(corner)
            torch.testing.assert_close(value, corner)
            assert log_det.isfinite().all()


@pytest.mark.parametrize("spline", [Quadratic(4, BOUND), RationalQuadratic(4, BOUND)])
@pytest.mark.parametrize("inverse", [False, True])
def test_beyond_the_bound_nothing_moves(spline, inverse):
    made = coupling(spline)
    call = made.inverse if inverse else made.forward
    x = torch.full((1, 5), BOUND + 1e-6).double() * torch.tensor([1, 1, -1, 1, 1])
    value, log_det = call(x)
    assert torch.equal(value, x)
    assert log_det.item() == 0
    near, _ = call(x * (1 - 1e-6))
    torch.testing.assert_close(near, x, rtol=1e-4, atol=0)


@pytest.mark.parametrize("moved", [[True, True], [False, False], [True]])
def test_a_coupling_that_moves_all_or_nothing_is_refused(moved):
    with pytest.raises(UsageError, match="moves some"):
        SplineCoupling(Linear(4), moved, hidden=4, layers=1)


@pytest.mark.parametrize("spline", [Linear(4), Quadratic(4), RationalQuadratic(4)])
def test_a_fresh_coupling_can_learn_all_that_shapes_its_density(spline):
    torch.manual_seed(0)
    made = SplineCoupling(spline, MOVED, hidden=8, layers=1)
    x = torch.rand(256, 5) ** 2
    made(x)[1].mean().backward()
    gradient = made.network[-1].bias.grad.reshape(2, spline.parameters)
    # Equal densities make any widths the identity.
    shaping = gradient[:, 4:] if isinstance(spline, Quadratic) else gradient
    assert (shaping != 0).all()
