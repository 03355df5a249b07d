"""What every transform promises: an exact inverse, and the Jacobian's log-determinant."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from toolkit.nn.actnorm import ActNorm
from toolkit.nn.autoregressive import Inverted, MaskedAffine
from toolkit.nn.coupling import AffineCoupling
from toolkit.nn.flow import Chain
from toolkit.nn.linear import InvertibleLinear
from toolkit.nn.multiscale import MultiScale
from toolkit.nn.networks import ConvNetwork, Perceptron
from toolkit.nn.permute import InvertibleConv1x1
from toolkit.nn.spline_coupling import Quadratic, RationalQuadratic, Spline, SplineCoupling
from toolkit.nn.squeeze import Squeeze

PICTURE, VECTOR = (4, 4, 4), (6,)


def vector_coupling(context: int = 0, *, swap: bool) -> AffineCoupling:
    network = Perceptron(3 + context, 6, hidden=8, layers=1)
    return AffineCoupling(network, scale="exponential", swap=swap)


def spline_coupling(spline: Spline) -> SplineCoupling:
    return SplineCoupling(spline, [True, False] * 3, hidden=8, layers=1)


def multiscale() -> MultiScale:
    scales = [Chain([Squeeze(), ActNorm(16)]), Chain([Squeeze(), InvertibleConv1x1(32)])]
    return MultiScale(scales, [(16, 2, 2), (32, 1, 1)])


CASES = {
    "actnorm": (lambda: ActNorm(4), PICTURE, 0),
    "actnorm on vectors": (lambda: ActNorm(6), VECTOR, 0),
    "1x1 convolution": (lambda: InvertibleConv1x1(4), PICTURE, 0),
    "squeeze": (Squeeze, PICTURE, 0),
    "sigmoid coupling": (lambda: AffineCoupling(ConvNetwork(2, 4, width=8)), PICTURE, 0),
    "exponential coupling": (lambda: vector_coupling(swap=False), VECTOR, 0),
    "swapped coupling": (lambda: vector_coupling(swap=True), VECTOR, 0),
    "conditional coupling": (lambda: vector_coupling(2, swap=False), VECTOR, 2),
    "chain": (lambda: Chain([vector_coupling(swap=False), vector_coupling(swap=True)]), VECTOR, 0),
    "linear": (lambda: InvertibleLinear(6), VECTOR, 0),
    "quadratic splines": (lambda: spline_coupling(Quadratic(4, 2.0)), VECTOR, 0),
    "rational splines": (lambda: spline_coupling(RationalQuadratic(4, 2.0)), VECTOR, 0),
    "autoregressive": (lambda: MaskedAffine(6, hidden=8, layers=1), VECTOR, 0),
    "inverted": (lambda: Inverted(MaskedAffine(6, hidden=8, layers=1)), VECTOR, 0),
    "multi-scale": (multiscale, PICTURE, 0),
}


@pytest.fixture(params=CASES)
def case(request) -> tuple[nn.Module, Tensor, Tensor | None]:
    """Return a transform with random parameters, a batch, and its context."""
    make, shape, context = CASES[request.param]
    torch.manual_seed(0)
    transform = make().double()
    with torch.no_grad():
        for parameter in transform.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    x = torch.randn(3, *shape, dtype=torch.float64)
    return transform, x, torch.randn(3, context, dtype=torch.float64) if context else None


def test_the_inverse_gives_the_input_back(case):
    transform, x, context = case
    y, log_det = transform(x, context)
    back, back_log_det = transform.inverse(y, context)
    assert log_det.shape == back_log_det.shape == (3,)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-9)
    torch.testing.assert_close(back_log_det, -log_det, rtol=0, atol=1e-9)


def test_log_det_is_that_of_the_jacobian(case):
    transform, x, context = case
    _, log_det = transform(x, context)
    for index in range(len(x)):
        given = None if context is None else context[index : index + 1]
        jacobian = torch.autograd.functional.jacobian(
            lambda value, given=given: transform(value[None], given)[0].flatten(), x[index]
        )
        matrix = jacobian.reshape(x[0].numel(), -1)
        torch.testing.assert_close(torch.linalg.slogdet(matrix).logabsdet, log_det[index])


def test_log_det_is_in_the_inputs_precision(case):
    transform, x, context = case
    context = None if context is None else context.float()
    y, log_det = transform.float()(x.float(), context)
    assert (y.dtype, log_det.dtype) == (torch.float32, torch.float32)
