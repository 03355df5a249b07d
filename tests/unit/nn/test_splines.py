from __future__ import annotations

import math

import pytest
import torch

from toolkit.core.errors import UsageError
from toolkit.nn import splines

BINS = 6
BOX = {"left": -2.0, "right": 1.0, "bottom": -1.0, "top": 3.0}
SIZES = {
    "rational_quadratic": (BINS, BINS, BINS + 1),
    "rational_linear": (BINS, BINS, BINS + 1, BINS),
    "piecewise_linear": (BINS,),
    "piecewise_quadratic": (BINS, BINS + 1),
    "piecewise_cubic": (BINS, BINS, 2),
}


def tables(name, *, scale=1.0, dtype=torch.float64, lead=(50, 3)):
    draws = torch.Generator().manual_seed(0)
    made = [
        scale * torch.randn(*lead, n, generator=draws, dtype=torch.float64) for n in SIZES[name]
    ]
    if name == "rational_linear":
        made = [made[0].softmax(-1), made[1].softmax(-1), made[2].exp(), made[3].sigmoid()]
    return [table.to(dtype) for table in made]


def values(low=-3.0, high=4.0, lead=(50, 3), dtype=torch.float64):
    return torch.linspace(low, high, math.prod(lead), dtype=dtype).reshape(lead)


@pytest.mark.parametrize("name", SIZES)
def test_the_inverse_undoes_the_spline_and_its_log_det(name):
    function, made = getattr(splines, name), tables(name)
    x = values(-1.999, 0.999)
    y, log_det = function(x, *made, tails="none", **BOX)
    back, inverse_log_det = function(y, *made, tails="none", inverse=True, **BOX)
    assert (back - x).abs().max() < 1e-9
    assert (log_det + inverse_log_det).abs().max() < 1e-6
    assert (y >= -1).all()
    assert (y <= 3).all()


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("name", SIZES)
def test_the_log_det_is_that_of_the_derivative(name, inverse):
    function, made = getattr(splines, name), tables(name)
    low, high = (-0.999, 2.999) if inverse else (-1.999, 0.999)
    x = values(low, high).requires_grad_()
    y, log_det = function(x, *made, tails="none", inverse=inverse, **BOX)
    (derivative,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(derivative.log(), log_det, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", SIZES)
def test_it_rises_and_keeps_to_the_interval(name):
    made = [table[:1, :1] for table in tables(name)]
    x = torch.linspace(-2, 1, 301, dtype=torch.float64).reshape(-1, 1)
    y, _ = getattr(splines, name)(x, *made, tails="none", **BOX)
    assert (y.diff(dim=0) > 0).all()
    torch.testing.assert_close(y[0], torch.tensor([-1.0], dtype=torch.float64))
    torch.testing.assert_close(y[-1], torch.tensor([3.0], dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("name", SIZES)
def test_edges_tails_and_odd_values_stay_finite(name, inverse, dtype):
    x = values(dtype=dtype)
    x[0] = torch.tensor([1.0, -1.0, 0.0])
    x[1] = torch.tensor([-0.0, 1e-40, -1e-40])
    x[2] = torch.tensor([1e30, -1e30, 1 - 1e-7])
    square = {"left": -1.0, "right": 1.0, "bottom": -1.0, "top": 1.0}
    for scale in (1.0, 1e-9, 20.0):
        made = tables(name, scale=scale, dtype=dtype)
        y, log_det = getattr(splines, name)(x, *made, inverse=inverse, tails="linear", **square)
        assert y.isfinite().all()
        assert log_det.isfinite().all()
        outside = x.abs() > 1
        assert torch.equal(y[outside], x[outside])
        assert (log_det[outside] == 0).all()
        assert (y[~outside].abs() <= 1 + 1e-6).all()


def test_equal_parameters_give_the_identity():
    x = values(-1, 1)
    zeros = torch.zeros(50, 3, BINS, dtype=torch.float64)
    y, log_det = splines.rational_quadratic(
        x, zeros, zeros, zeros[..., 1:] + 0.5397424, tails="linear"
    )
    torch.testing.assert_close(y, x, rtol=0, atol=1e-4)
    torch.testing.assert_close(log_det, torch.zeros_like(x), rtol=0, atol=1e-3)


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("name", SIZES)
def test_one_table_for_all_equals_its_copies(name, inverse):
    x, made = values(), tables(name, lead=(3,))
    copies = [table.expand(50, *table.shape) for table in made]
    shared = getattr(splines, name)(x, *made, inverse=inverse)
    for one, many in zip(shared, getattr(splines, name)(x, *copies, inverse=inverse), strict=True):
        torch.testing.assert_close(one, many, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("lead", [(), (4,), (2, 3, 4)])
def test_any_number_of_leading_axes(lead):
    x, made = values(-1, 1, lead), tables("rational_quadratic", lead=lead)
    y, log_det = splines.rational_quadratic(x, *made)
    assert y.shape == log_det.shape == lead


def test_circular_ends_are_equal():
    made = tables("rational_quadratic")
    ends = torch.tensor([[-1.0, 1.0, 0.0]], dtype=torch.float64).expand(50, 3)
    one_table = [table[:, :1].expand(50, 3, -1) for table in made]
    _, log_det = splines.rational_quadratic(
        ends, one_table[0], one_table[1], one_table[2][..., :BINS], tails="circular"
    )
    torch.testing.assert_close(log_det[:, 0], log_det[:, 1])


@pytest.mark.parametrize(
    "wrong", [{"tails": "lniear"}, {"parameters": "raw"}, {"tails": "circular"}]
)
def test_what_does_not_fit_is_refused(wrong):
    widths, heights, derivatives = tables("rational_quadratic")
    with pytest.raises(UsageError):
        splines.rational_quadratic(values(), widths, heights, derivatives[..., 2:], **wrong)
