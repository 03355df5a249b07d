"""The derivative of lgamma, to the last digits next to its zero at 1.4616.

Up to 3 it is the distance from that zero times a quotient of polynomials; beyond, it is the
asymptotic series; negative arguments are reflected. Quotient and series are minimax fits, computed
with 60 digits.

References:
    Boost.Math, `digamma`, for the form next to the zero (no arXiv number).
    NIST Digital Library of Mathematical Functions, 5.5.4 and 5.11.2 (no arXiv number).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from onnxscript import opset18 as op

from toolkit.core.protocols import Example
from toolkit.lowerings._maths import (
    Number,
    Quotient,
    is_double,
    numbers_like,
    polynomial,
    quotient,
    widened,
)

# Of x - 1, for digamma(x) / (x - zero) on 1 <= x <= 3.
NEAR_SINGLE: Quotient = (
    (
        0.0018244499315543407,
        0.18566269672666072,
        1.0863065197736224,
        1.2503801211461032,
    ),
    (
        0.05412722729263078,
        0.6077947608322338,
        1.5523268164193802,
        1.0,
    ),
)
NEAR_DOUBLE: Quotient = (
    (
        7.727835499599627e-07,
        0.0004701950598462906,
        0.017504938326024816,
        0.20030117417124807,
        0.9329768164453408,
        1.8386242229650618,
        1.2503801375034054,
    ),
    (
        9.557390522209817e-05,
        0.005247017213999088,
        0.08292610017101218,
        0.5404977196654244,
        1.6167220989113922,
        2.153999014207395,
        1.0,
    ),
)
# Of 1 / x², for (log(x) - 1 / 2x - digamma(x)) x² on x >= 3.
REST_SINGLE = (
    0.0032619283429454506,
    -0.008291029188486183,
    0.08333257487376969,
)
REST_DOUBLE = (
    3.2442366228924557,
    -2.677390976668038,
    1.0821517615075344,
    -0.3051648647772114,
    0.07590211741241228,
    -0.020803665222567994,
    0.007568028066275538,
    -0.0041665330318963216,
    0.003968252604169655,
    -0.008333333326342693,
    0.08333333333332092,
)
NEAR_END = 3.0
# The zero minus one, and what float64 leaves of it.
ZERO, ZERO_REST = 0.46163214496836236, -1.5522348162858677e-17


@widened
def digamma(self: Any) -> Any:
    """Translate `digamma(Tensor self) -> Tensor`: ∓inf at ±0, NaN at the negative integers."""
    number = numbers_like(self)
    zero, size = number(0), op.Abs(self)
    inverse, below = op.Reciprocal(size), op.Less(size, number(1))
    near = _near(size, below, number, NEAR_DOUBLE if is_double(self) else NEAR_SINGLE)
    far = _far(size, inverse, number, REST_DOUBLE if is_double(self) else REST_SINGLE)
    stepped = op.Where(op.Less(size, number(NEAR_END)), near, far)
    positive = op.Sub(stepped, op.Where(below, inverse, zero))
    over_one = op.Add(stepped, op.Where(below, zero, inverse))
    value = op.Where(op.Less(self, zero), _reflected(size, over_one, number), positive)
    return op.Where(op.Equal(self, zero), op.Neg(op.Reciprocal(self)), value)


def _near(x: Any, below: Any, number: Number, pair: Quotient) -> Any:
    """Return `digamma(x)`, and below 1 `digamma(1 + x) = digamma(x) + 1 / x`."""
    one = number(1)
    over_one = op.Where(below, x, op.Sub(x, one))
    first, rest = _split()
    distance = op.Sub(op.Sub(over_one, number(first)), number(rest))
    return op.Mul(distance, quotient(pair, over_one, number))


def _split() -> tuple[float, float]:
    """Return the zero in two parts, the first of which the type holds exactly."""
    first = float(np.float32(ZERO))
    return first, (ZERO - first) + ZERO_REST


def _far(x: Any, inverse: Any, number: Number, rest: tuple[float, ...]) -> Any:
    square = op.Mul(inverse, inverse)
    tail = op.Mul(square, polynomial(rest, square, number))
    return op.Sub(op.Sub(op.Log(x), op.Mul(inverse, number(0.5))), tail)


def _reflected(size: Any, over_one: Any, number: Number) -> Any:
    """Return `digamma(-x) = digamma(1 + x) + π cot(πx)`."""
    fraction = op.Sub(size, op.Round(size))
    angle = op.Mul(fraction, number(math.pi))
    cotangent = op.Div(op.Mul(op.Cos(angle), number(math.pi)), op.Sin(angle))
    value = op.Add(over_one, cotangent)
    return op.Where(op.Equal(fraction, number(0)), number(math.nan), value)


class Digamma:
    """The logarithmic derivative of the gamma function."""

    def __call__(self) -> Mapping[torch._ops.OpOverload, Callable[..., Any]]:
        """Return the table; in a decomposed program the operator is `prims.digamma`."""
        own = torch.ops.prims.digamma.default
        return {torch.ops.aten.digamma.default: digamma, own: digamma}

    def examples(self) -> Mapping[str, Example]:
        """Return every range, the zero with its sides, negative arguments, poles and edges."""
        grid = torch.linspace(0.05, 6, 600, dtype=torch.float64)
        offsets = torch.logspace(-0.3, -6, 40, dtype=torch.float64)
        # Next to its poles torch's own answer is wrong, by 1e-3 of it at -16 + 1e-14.
        between = -(torch.arange(9)[:, None] + torch.linspace(0.1, 0.9, 40, dtype=torch.float64))
        zero = 1 + ZERO + torch.cat([offsets, -offsets])
        tiny = torch.logspace(-36, -1, 80, dtype=torch.float64)
        ends = [0.0, -0.0, 1.0, 2.0, 3.0, 1e30, -1.0, -7.0, -1e20, math.inf, -math.inf, math.nan]
        return {
            "grid": Example(torch.digamma, (grid,)),
            "zero": Example(torch.digamma, (zero,)),
            "large": Example(torch.digamma, (torch.logspace(0, 30, 200, dtype=torch.float64),)),
            "tiny": Example(lambda x: torch.digamma(x) * x, (torch.cat([tiny, -tiny]),)),
            "negative": Example(torch.digamma, (between,)),
            "edges": Example(torch.digamma, (torch.tensor(ends, dtype=torch.float64),)),
            "decomposed": Example(torch.ops.prims.digamma.default, (grid,)),
        }


lowering = Digamma()
