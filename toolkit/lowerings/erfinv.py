"""The inverse error function.

In float32 two polynomials, in `w = -log(1 - x²)` and in its root, after Giles, but minimax fits
of higher degree, computed with 60 digits; in float64 Wichura's quotients for the normal
distribution, `erfinv(x) = ndtri((1 + x) / 2) / sqrt(2)`. No `Erf` is needed, which ONNX Runtime
lacks in float64.

References:
    Approximating the erfinv function, Giles, GPU Computing Gems Jade Edition (2011), chapter 10
    (no arXiv number).
    Algorithm AS 241: The Percentage Points of the Normal Distribution, Applied Statistics 37
    (1988), 477-484 (no arXiv number).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from onnxscript import opset18 as op

from toolkit.core.protocols import Example
from toolkit.lowerings._maths import is_double, numbers_like, polynomial, widened
from toolkit.lowerings._normal_quantile import CENTRE_HALF_WIDTH, centre, tail

# For erfinv(x) / x: of w - 2.5 up to w = 5, and of sqrt(w) - 3 beyond, as far as float32 reaches.
CENTRE_SINGLE = (
    -8.829588038443645e-09,
    2.324163872776594e-08,
    4.6672859320159e-07,
    -3.4628260753878695e-06,
    -4.966062231821143e-06,
    0.00021834496084824747,
    -0.0012527369275692755,
    -0.004177387522519027,
    0.246640283666043,
    1.5014093594590534,
)
TAIL_SINGLE = (
    9.764773392752125e-05,
    -0.00028935235948571115,
    -3.254029811187009e-05,
    0.001459418647109004,
    -0.003609252483466632,
    0.005697108133190372,
    -0.0076348407089033,
    0.00944403880440658,
    1.0016748113948557,
    2.832976823770614,
)


@widened
def erfinv(self: Any) -> Any:
    """Translate `erfinv(Tensor self) -> Tensor`: ±inf at ±1, NaN beyond."""
    return _double(self) if is_double(self) else _single(self)


def _single(x: Any) -> Any:
    number = numbers_like(x)
    one = number(1)
    rest = op.Mul(op.Sub(one, x), op.Add(one, x))
    inside = op.Greater(rest, number(0))
    # Outside the domain any finite value will do: it is not selected.
    w = op.Neg(op.Log(op.Where(inside, rest, one)))
    near = polynomial(CENTRE_SINGLE, op.Sub(w, number(2.5)), number)
    far = polynomial(TAIL_SINGLE, op.Sub(op.Sqrt(w), number(3)), number)
    value = op.Mul(x, op.Where(op.Less(w, number(5)), near, far))
    return op.Where(inside, value, op.Div(x, op.Sqrt(rest)))


def _double(x: Any) -> Any:
    number = numbers_like(x)
    one, half, size = number(1), number(0.5), op.Abs(x)
    beyond, inside = op.Sub(one, size), op.Less(size, one)
    share = op.Where(inside, op.Mul(beyond, half), half)
    normal = op.Where(
        op.LessOrEqual(size, number(2 * CENTRE_HALF_WIDTH)),
        centre(op.Mul(x, half), number),
        op.Mul(op.Sign(x), tail(share, number, far=True)),
    )
    return op.Where(inside, op.Mul(normal, number(math.sqrt(0.5))), op.Div(x, op.Sqrt(beyond)))


class ErfInv:
    """The inverse error function under its three names."""

    def __call__(self) -> Mapping[torch._ops.OpOverload, Callable[..., Any]]:
        """Return the table; in a decomposed program the operator is `prims.erf_inv`."""
        return {
            torch.ops.aten.erfinv.default: erfinv,
            torch.ops.aten.special_erfinv.default: erfinv,
            torch.ops.prims.erf_inv.default: erfinv,
        }

    def examples(self) -> Mapping[str, Example]:
        """Return the whole domain, the tails and the edges."""
        grid = torch.linspace(-1, 1, 4002, dtype=torch.float64)[1:-1]
        tails = 1 - torch.logspace(-7, -1, 64, dtype=torch.float64)
        edges = [0.0, -0.0, 1e-30, -1e-6, 0.85, -0.85, 1.0, -1.0, 1.5, math.nan]
        return {
            "domain": Example(torch.erfinv, (grid.reshape(-1, 8),)),
            "tails": Example(torch.special.erfinv, (torch.cat([tails, -tails]),)),
            "edges": Example(
                torch.ops.prims.erf_inv.default, (torch.tensor(edges, dtype=torch.float64),)
            ),
        }


lowering = ErfInv()
