"""The logarithm of the gamma function, to the last digits next to its zeros at 1 and 2.

Up to 5 (3 in float64, for shorter polynomials) it is `(x - 1)(x - 2)` times a quotient of
polynomials, which keeps both zeros; beyond, it is Stirling's series; negative arguments are
reflected, the sine taken of what is left after rounding, so that poles are where they belong.
Quotient and series are minimax fits, computed with 60 digits; in powers of `x - 1` all coefficients
of a quotient have one sign, so that nothing cancels.

References:
    Boost.Math, `lgamma`, for the form next to the zeros (no arXiv number).
    NIST Digital Library of Mathematical Functions, 5.5.3 and 5.11.1 (no arXiv number).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from onnxscript import opset18 as op

from toolkit.core.protocols import Example
from toolkit.lowerings._maths import (
    Coefficients,
    Number,
    Quotient,
    is_double,
    numbers_like,
    polynomial,
    quotient,
    widened,
)

# Of x - 1, for lgamma(x) / ((x - 1)(x - 2)) from 1 to where the series begins.
NEAR_SINGLE: Quotient = (
    (
        0.00011742244805698809,
        0.022671328720838477,
        0.2649801237243984,
        0.7552985519734955,
        0.5772156627664232,
    ),
    (
        0.007188035471460717,
        0.16552508627176252,
        0.9262902179579297,
        1.733407088742303,
        1.0,
    ),
)
NEAR_DOUBLE: Quotient = (
    (
        1.3229681001356358e-06,
        0.0006053032376737227,
        0.01914243567960166,
        0.19034094465647516,
        0.8128996889047647,
        1.6588476793140436,
        1.592689246311835,
        0.5772156649015329,
    ),
    (
        0.00015623647456157098,
        0.008091509510141873,
        0.1212186579929865,
        0.7727258961823051,
        2.43185080091069,
        3.957498771373879,
        3.1841488833258653,
        1.0,
    ),
)
# Of 1 / x², for what Stirling's formula leaves, times x.
REST_SINGLE: Coefficients = (
    0.0007601244504657885,
    -0.0027772860248322694,
    0.08333333225529804,
)
REST_DOUBLE: Coefficients = (
    0.27049763986683345,
    -0.2119209559211161,
    0.08247063845835799,
    -0.02317239718246134,
    0.00610413410963699,
    -0.0019074040910304255,
    0.0008415334915499947,
    -0.0005952353036066367,
    0.00079365077495671,
    -0.002777777777728375,
    0.08333333333333331,
)
SINGLE_END, DOUBLE_END = 5.0, 3.0
STIRLING = 0.5 * math.log(2 * math.pi) - 0.5


@widened
def lgamma(self: Any) -> Any:
    """Translate `lgamma(Tensor self) -> Tensor`: inf at zero and the negative integers."""
    number = numbers_like(self)
    size = op.Abs(self)
    log = op.Log(size)
    if is_double(self):
        pair, rest, end = NEAR_DOUBLE, REST_DOUBLE, DOUBLE_END
    else:
        pair, rest, end = NEAR_SINGLE, REST_SINGLE, SINGLE_END
    near, far = _near(size, log, number, pair), _far(size, log, number, rest)
    positive = op.Where(op.Less(size, number(end)), near, far)
    return op.Where(op.Less(self, number(0)), _reflected(size, log, positive, number), positive)


def _near(x: Any, log: Any, number: Number, pair: Quotient) -> Any:
    """Step up by one below 1, where `lgamma(x) = lgamma(x + 1) - log(x)`."""
    one, below = number(1), op.Less(x, number(1))
    over_one = op.Where(below, x, op.Sub(x, one))
    over_two = op.Sub(over_one, one)
    value = op.Mul(op.Mul(over_one, over_two), quotient(pair, over_one, number))
    return op.Sub(value, op.Where(below, log, number(0)))


def _far(x: Any, log: Any, number: Number, rest: Coefficients) -> Any:
    inverse = op.Reciprocal(x)
    tail = op.Mul(inverse, polynomial(rest, op.Mul(inverse, inverse), number))
    main = op.Mul(op.Sub(x, number(0.5)), op.Sub(log, number(1)))
    return op.Add(main, op.Add(tail, number(STIRLING)))


def _reflected(size: Any, log: Any, positive: Any, number: Number) -> Any:
    """Return `log(π / (|x| |sin(πx)|)) - lgamma(|x|)`; infinity has no fraction, but is a pole."""
    fraction = op.Sub(size, op.Round(size))
    wave = op.Abs(op.Sin(op.Mul(fraction, number(math.pi))))
    value = op.Neg(op.Add(op.Log(op.Div(wave, number(math.pi))), op.Add(log, positive)))
    # At infinity the fraction is NaN, and so is the sum; NaN itself stays.
    regular = op.Greater(op.Abs(fraction), number(0))
    return op.Where(op.Or(regular, op.IsNaN(size)), value, number(math.inf))


class LGamma:
    """The logarithm of the absolute value of the gamma function."""

    def __call__(self) -> Mapping[torch._ops.OpOverload, Callable[..., Any]]:
        """Return the table; in a decomposed program the operator is `prims.lgamma`."""
        return {torch.ops.aten.lgamma.default: lgamma, torch.ops.prims.lgamma.default: lgamma}

    def examples(self) -> Mapping[str, Example]:
        """Return every range, both zeros with their sides, negative arguments, poles and edges."""
        grid = torch.linspace(0.02, 6, 600, dtype=torch.float64)
        offsets = torch.logspace(-6, -2, 40, dtype=torch.float64)
        zeros = torch.cat([1 + offsets, 1 - offsets, 2 + offsets, 2 - offsets])
        # Every type must hold them: next to a zero their rounding is larger than any error.
        exact = zeros.float().double()
        tiny = torch.logspace(-44, -1, 80, dtype=torch.float64)
        ends = [0.0, -0.0, 1.0, 2.0, 3.0, 5.0, 1e30, -1.0, -7.0, -1e20, math.inf, -math.inf]
        edges = torch.tensor([*ends, math.nan], dtype=torch.float64)
        prim = torch.ops.prims.lgamma.default
        return {
            "grid": Example(torch.lgamma, (grid,)),
            "zeros": Example(lambda x: torch.lgamma(x) / ((x - 1) * (x - 2)), (exact,)),
            "large": Example(torch.lgamma, (torch.logspace(0, 30, 200, dtype=torch.float64),)),
            "tiny": Example(torch.lgamma, (torch.cat([tiny, -tiny]),)),
            "negative": Example(torch.lgamma, (-1.003 * grid,)),
            "far negative": Example(torch.lgamma, (-60 - grid,)),
            "edges": Example(torch.lgamma, (edges,)),
            "decomposed": Example(prim, (grid,)),
        }


lowering = LGamma()
