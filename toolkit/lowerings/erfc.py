"""The complementary error function with its tail, its scaled form, and the normal's logarithm.

torch translates `erfc` as `1 - Erf(x)`, zero from 4 on, its scaled form as a product that
overflows at 9.3, and the logarithm of the normal distribution from both, so that it is infinite
below -5.5 and NaN below -13. ONNX Runtime has no `Erf` in float64.

All of them come from one fit over the whole half line, `exp(x²) erfc(x) ≈ t R(t)` with
`t = 1 / (1 + k x)`: a polynomial in float32, a quotient in float64, minimax, computed with 60
digits.

References:
    Chebyshev Approximations for the Complementary Error Function, Schonfelder, Mathematics of
    Computation 32 (1978), 1232-1240 (no arXiv number), for the variable.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from onnxscript import opset18 as op

from toolkit.core.protocols import Example
from toolkit.lowerings._maths import (
    Number,
    Quotient,
    is_double,
    log_one_plus,
    numbers_like,
    polynomial,
    quotient,
    widened,
)

# For exp(x²) erfc(x) / t: of t - 1/2 with t = 1 / (1 + x / 2).
SCALED_SINGLE = (
    0.04252098499739389,
    -0.01900307190739496,
    -0.07628896575450007,
    0.05526346231986856,
    0.09780188956041246,
    -0.10381422764595288,
    -0.17202153816111218,
    0.1457748618946398,
    0.5589428324700286,
    0.6871606116638117,
    0.5107913573263411,
)
# Of t with t = 1 / (1 + x): no sign changes, nothing cancels.
SCALED_DOUBLE: Quotient = (
    (
        0.009925513560762652,
        544.3744947151212,
        1166.4370121238205,
        1366.272502022976,
        1096.9269755453997,
        650.7476520034501,
        294.3951339833104,
        101.05128296748838,
        26.307896270228923,
        4.633203283465671,
        0.5641895835477562,
    ),
    (
        108.70441308945749,
        474.6164343055378,
        978.9010099154383,
        1259.8561196859248,
        1131.8260978459543,
        743.4874985000043,
        370.1138895460689,
        137.0852730704957,
        38.91739305168058,
        7.2121390018064915,
        1.0,
    ),
)
# Of x², for erf(x) / x on |x| <= 1.
CENTRE = (
    -7.783390093813543e-10,
    1.3713131040450037e-08,
    -1.6206822862346556e-07,
    1.6447199642691999e-06,
    -1.4924717950157062e-05,
    0.00012055293877722651,
    -0.0008548325939593888,
    0.0052239776063371796,
    -0.02686617064313857,
    0.11283791670944357,
    -0.37612638903183526,
    1.1283791670955126,
)
LARGEST = 30.0
"""exp(900) is infinite in float64 already, and infinity has no fraction."""


@widened
def erf(self: Any) -> Any:
    """Translate `erf(Tensor self) -> Tensor`: one node but in float64."""
    return _erf(self, numbers_like(self), double=is_double(self))


@widened
def erfc(self: Any) -> Any:
    """Translate `erfc(Tensor self) -> Tensor`."""
    number = numbers_like(self)
    tail = _tail(op.Abs(self), number, double=is_double(self))
    return op.Where(op.Less(self, number(0)), op.Sub(number(2), tail), tail)


@widened
def special_erfcx(self: Any) -> Any:
    """Translate `special_erfcx(Tensor self) -> Tensor`: `exp(x²) erfc(x)`."""
    number = numbers_like(self)
    size = op.Abs(self)
    scaled = _scaled(size, number, double=is_double(self))
    mirrored = op.Sub(op.Mul(number(2), _exp_of_square(size, number, sign=1)), scaled)
    return op.Where(op.Less(self, number(0)), mirrored, scaled)


@widened
def special_ndtr(self: Any) -> Any:
    """Translate `special_ndtr(Tensor self) -> Tensor`: `(1 + erf(x / √2)) / 2`, as torch does."""
    number = numbers_like(self)
    centred = _erf(op.Mul(self, number(math.sqrt(0.5))), number, double=is_double(self))
    return op.Mul(op.Add(centred, number(1)), number(0.5))


@widened
def special_log_ndtr(self: Any) -> Any:
    """Translate `special_log_ndtr(Tensor self) -> Tensor`: `log(erfc(-x / √2) / 2)`.

    Below zero the square leaves the logarithm, so that nothing underflows; above, the upper tail
    is taken from one.
    """
    number = numbers_like(self)
    half_square = op.Mul(self, op.Mul(self, number(-0.5)))
    size = op.Mul(op.Abs(self), number(math.sqrt(0.5)))
    scaled = _scaled(size, number, double=is_double(self))
    share = op.Mul(scaled, number(0.5))
    below = op.Add(op.Log(share), half_square)
    above = log_one_plus(op.Neg(op.Mul(op.Exp(half_square), share)), number)
    return op.Where(op.Less(self, number(0)), below, above)


def _erf(x: Any, number: Number, *, double: bool) -> Any:
    if not double:
        return op.Erf(x)
    size = op.Abs(x)
    inner = op.Mul(x, polynomial(CENTRE, op.Mul(x, x), number))
    outer = op.Mul(op.Sign(x), op.Sub(number(1), _tail(size, number, double=True)))
    return op.Where(op.LessOrEqual(size, number(1)), inner, outer)


def _scaled(size: Any, number: Number, *, double: bool) -> Any:
    """Return `exp(x²) erfc(x)` for `x >= 0`."""
    one = number(1)
    if double:
        t = op.Reciprocal(op.Add(size, one))
        return op.Mul(t, quotient(SCALED_DOUBLE, t, number))
    t = op.Reciprocal(op.Add(op.Mul(size, number(0.5)), one))
    return op.Mul(t, polynomial(SCALED_SINGLE, op.Sub(t, number(0.5)), number))


def _tail(size: Any, number: Number, *, double: bool) -> Any:
    """Return `erfc(x)` for `x >= 0`."""
    return op.Mul(_exp_of_square(size, number, sign=-1), _scaled(size, number, double=double))


def _exp_of_square(size: Any, number: Number, *, sign: int) -> Any:
    """Return `exp(±x²)`, the square taken in two parts, or its rounding would be the error."""
    size = op.Min(size, number(LARGEST))
    short = op.Div(op.Floor(op.Mul(size, number(16))), number(16))
    rest = op.Mul(op.Sub(size, short), op.Add(size, short))
    square = op.Mul(short, short)
    if sign < 0:
        square, rest = op.Neg(square), op.Neg(rest)
    return op.Mul(op.Exp(square), op.Exp(rest))


class ErfC:
    """What follows from the scaled complementary error function."""

    def __call__(self) -> Mapping[torch._ops.OpOverload, Callable[..., Any]]:
        """Return the table."""
        return {
            torch.ops.aten.erf.default: erf,
            torch.ops.aten.erfc.default: erfc,
            torch.ops.aten.special_erfcx.default: special_erfcx,
            torch.ops.aten.special_ndtr.default: special_ndtr,
            torch.ops.aten.special_log_ndtr.default: special_log_ndtr,
        }

    def examples(self) -> Mapping[str, Example]:
        """Return the centre, both tails (as logarithms, or they would hide) and the edges."""
        grid = torch.linspace(-4, 4, 401, dtype=torch.float64)
        tail = torch.linspace(1, 9, 200, dtype=torch.float64)
        far = torch.logspace(0, 6, 100, dtype=torch.float64)
        ends = [0.0, -0.0, 1e-45, 1.0, -1.0, 30.0, -30.0, 1e4, -1e4, 1e30, math.inf, -math.inf]
        edges = torch.tensor([*ends, math.nan], dtype=torch.float64)
        scaled, log_normal = torch.special.erfcx, torch.special.log_ndtr
        return {
            "erf": Example(torch.erf, (grid,)),
            "erf, small": Example(lambda x: torch.erf(x) / x, (1 / far,)),
            "erf, edges": Example(torch.erf, (edges,)),
            "erfc": Example(torch.erfc, (grid,)),
            "erfc, tail": Example(lambda x: torch.erfc(x).log(), (tail,)),
            "erfc, edges": Example(torch.erfc, (edges,)),
            "erfcx": Example(scaled, (grid,)),
            "erfcx, far": Example(lambda x: scaled(x) * x, (far,)),
            "erfcx, edges": Example(scaled, (edges,)),
            "log_ndtr": Example(log_normal, (grid,)),
            "log_ndtr, upper tail": Example(lambda x: (-log_normal(x)).log(), (tail,)),
            "log_ndtr, lower tail": Example(lambda x: log_normal(x) / x, (-far,)),
            "log_ndtr, edges": Example(log_normal, (edges,)),
            "ndtr": Example(torch.special.ndtr, (grid,)),
        }


lowering = ErfC()
