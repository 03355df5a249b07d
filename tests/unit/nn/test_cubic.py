from __future__ import annotations

import pytest
import torch

from toolkit.nn import _cubic

FIRST = torch.tensor([0.0, 1e-12, 1e-4, 0.3, 1.0, 1 + 1e-9, 1.7, 2.0, 2.9, 3.0])
SHAPES = {
    # Derivatives at both ends, over the slope: up to 3 keeps the cubic rising.
    "any": torch.cartesian_prod(FIRST, FIRST),
    "no cubic term": torch.stack([FIRST[:8], 2 - FIRST[:8]], -1),
    "hardly any": torch.stack([FIRST[:8], 2 - FIRST[:8] + 1e-6 * FIRST[3:].max()], -1),
    "a line": torch.ones(1, 2),
    "flat in the middle": torch.full((1, 2), 3.0),
}


def cubics(name, dtype):
    first, last = SHAPES[name].to(dtype).unsqueeze(-1).unbind(1)
    return first + last - 2, 3 - 2 * first - last, first


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-14), (torch.float32, 5e-6)])
def test_the_root_takes_the_cubic_to_the_value(name, dtype, error):
    a, b, c = cubics(name, dtype)
    p = torch.cat([torch.tensor([0.0, 1e-30, 1e-9]), torch.linspace(1e-3, 1, 500)]).to(dtype)
    a, b, c, p = torch.broadcast_tensors(a, b, c, torch.minimum(p, a + b + c))
    theta = _cubic.root(a, b, c, p)
    assert theta.isfinite().all()
    assert (theta >= -error).all()
    exact = [item.double() for item in (theta, a, b, c, p)]
    theta, a, b, c, p = exact
    assert (theta * (c + theta * (b + a * theta)) - p).abs().max() <= error


def test_the_gradient_is_the_inverse_of_the_derivative():
    a, b, c = cubics("any", torch.float64)
    p = torch.linspace(0.2, 0.8, 7, dtype=torch.float64).expand(len(a), 7).requires_grad_()
    theta = _cubic.root(a, b, c, p)
    (gradient,) = torch.autograd.grad(theta.sum(), p)
    slope = (c + theta * (2 * b + 3 * a * theta)).detach()
    steep = slope > 1e-3
    torch.testing.assert_close(gradient[steep], 1 / slope[steep], rtol=1e-6, atol=0)
