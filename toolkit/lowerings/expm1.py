"""`exp(x) - 1` that keeps the digits of small x, which torch's own `Sub(Exp(x), 1)` loses.

The polynomials are minimax fits of `(exp(x) - 1 - x) / x²` on `|x| <= 0.36`, computed with 60
digits; the form is that of Cephes' `expm1`.

References:
    Cephes Mathematical Library, Moshier, file unity.c (no arXiv number).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from onnxscript import opset18 as op

from toolkit.core.protocols import Example
from toolkit.lowerings._maths import is_double, numbers_like, polynomial, widened

HALF_WIDTH = 0.35
SINGLE = (
    0.00019862710550200657,
    0.0013943865504177442,
    0.008333361608907726,
    0.041666319937315975,
    0.166666664887272,
    0.5000000053603082,
)
DOUBLE = (
    2.506522169518014e-08,
    2.763017992484305e-07,
    2.7557379348288e-06,
    2.4801494985078562e-05,
    0.00019841269742400234,
    0.0013888888939932685,
    0.008333333333382306,
    0.04166666666655236,
    0.16666666666666594,
    0.5000000000000007,
)


@widened
def expm1(self: Any) -> Any:
    """Translate `expm1(Tensor self) -> Tensor`: -1 at -inf."""
    number = numbers_like(self)
    series = polynomial(DOUBLE if is_double(self) else SINGLE, self, number)
    near = op.Add(self, op.Mul(op.Mul(self, self), series))
    inside = op.LessOrEqual(op.Abs(self), number(HALF_WIDTH))
    return op.Where(inside, near, op.Sub(op.Exp(self), number(1)))


class Expm1:
    """The exponential minus one."""

    def __call__(self) -> Mapping[torch._ops.OpOverload, Callable[..., Any]]:
        """Return the table."""
        return {torch.ops.aten.expm1.default: expm1}

    def examples(self) -> Mapping[str, Example]:
        """Return small numbers alone, where no large answer hides their error, and the edges."""
        grid = torch.linspace(-4, 4, 501, dtype=torch.float64)
        small = torch.logspace(-38, 0, 200, dtype=torch.float64)
        tiny = torch.logspace(-42, -37, 20, dtype=torch.float64)
        edges = [0.0, -0.0, 1e-45, 0.35, -0.35, -100.0, 88.0, math.inf, -math.inf, math.nan]
        return {
            "grid": Example(torch.expm1, (grid,)),
            "small": Example(lambda x: torch.expm1(x) / x, (torch.cat([small, -small]),)),
            "denormal": Example(torch.expm1, (tiny,)),
            "edges": Example(torch.expm1, (torch.tensor(edges, dtype=torch.float64),)),
            "integers": Example(torch.expm1, (torch.arange(5),)),
        }


lowering = Expm1()
