"""The toolkit's torch operators: their schema, their fake, their values and their gradients."""

from __future__ import annotations

import pytest
import torch

from toolkit.nn.operators import OPERATORS

BINS = 6
SIZES = {
    "RationalQuadraticSpline": (BINS, BINS, BINS + 1),
    "RationalLinearSpline": (BINS, BINS, BINS + 1, BINS),
    "PiecewiseLinearSpline": (BINS,),
    "PiecewiseQuadraticSpline": (BINS, BINS + 1),
    "PiecewiseCubicSpline": (BINS, BINS, 2),
}


def arguments(op_type):
    draws = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=draws, dtype=torch.float64)

    if op_type == "MaskedConvolutionStep":
        return [draw(4, 3), draw(4, 3, 5), draw(2, 3), draw(2, 3, 5), draw(2)], {}
    tables = [draw(4, 3, size) for size in SIZES[op_type]]
    if op_type == "RationalLinearSpline":
        tables = [
            tables[0].softmax(-1),
            tables[1].softmax(-1),
            tables[2].exp(),
            tables[3].sigmoid(),
        ]
    x = torch.linspace(-0.9, 0.9, 12, dtype=torch.float64).reshape(4, 3)
    return [x, *tables], {"left": -1.0, "bottom": -1.0}


def tensors(result):
    return (result,) if isinstance(result, torch.Tensor) else result


@pytest.mark.parametrize("op_type", OPERATORS)
def test_the_operator_is_the_function_its_fake_and_its_gradient(op_type):
    operator, (made, given) = OPERATORS[op_type], arguments(op_type)
    inputs = tuple(item.requires_grad_() for item in made)
    torch.library.opcheck(
        operator.overload,
        inputs,
        given,
        test_utils=("test_schema", "test_faketensor", "test_autograd_registration"),
    )
    ours, plain = (tensors(call(*inputs, **given)) for call in (operator, operator.plain))
    for mine, truth in zip(ours, plain, strict=True):
        assert torch.equal(mine, truth)
    gradients, plain_gradients = (
        torch.autograd.grad(result[0].sum(), inputs) for result in (ours, plain)
    )
    for mine, truth in zip(gradients, plain_gradients, strict=True):
        assert torch.equal(mine, truth)
