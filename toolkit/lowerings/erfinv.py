"""The inverse error function, as quotients of polynomials.

`erfinv(x) = ndtri((1 + x) / 2) / sqrt(2)`, with Wichura's three quotients: one for the centre, and
two in `sqrt(-log((1 - |x|) / 2))` for the tails. No `Erf` is needed, which ONNX Runtime lacks in
float64.

References:
    Algorithm AS 241: The Percentage Points of the Normal Distribution, Applied Statistics 37
    (1988), 477-484 (no arXiv number).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import onnx_ir as ir
import torch
from onnxscript import opset18 as op

from toolkit.core.protocols import Example

Quotient = tuple[Sequence[float], Sequence[float]]
Number = Callable[[float], Any]

# Coefficients from the highest degree down.
CENTRE: Quotient = (
    (
        2.5090809287301226727e3,
        3.3430575583588128105e4,
        6.7265770927008700853e4,
        4.5921953931549871457e4,
        1.3731693765509461125e4,
        1.9715909503065514427e3,
        1.3314166789178437745e2,
        3.3871328727963666080e0,
    ),
    (
        5.2264952788528545610e3,
        2.8729085735721942674e4,
        3.9307895800092710610e4,
        2.1213794301586595867e4,
        5.3941960214247511077e3,
        6.8718700749205790830e2,
        4.2313330701600911252e1,
        1.0,
    ),
)
TAIL: Quotient = (
    (
        7.74545014278341407640e-4,
        2.27238449892691845833e-2,
        2.41780725177450611770e-1,
        1.27045825245236838258e0,
        3.64784832476320460504e0,
        5.76949722146069140550e0,
        4.63033784615654529590e0,
        1.42343711074968357734e0,
    ),
    (
        1.05075007164441684324e-9,
        5.47593808499534494600e-4,
        1.51986665636164571966e-2,
        1.48103976427480074590e-1,
        6.89767334985100004550e-1,
        1.67638483018380384940e0,
        2.05319162663775882187e0,
        1.0,
    ),
)
FAR_TAIL: Quotient = (
    (
        2.01033439929228813265e-7,
        2.71155556874348757815e-5,
        1.24266094738807843860e-3,
        2.65321895265761230930e-2,
        2.96560571828504891230e-1,
        1.78482653991729133580e0,
        5.46378491116411436990e0,
        6.65790464350110377720e0,
    ),
    (
        2.04426310338993978564e-15,
        1.42151175831644588870e-7,
        1.84631831751005468180e-5,
        7.86869131145613259100e-4,
        1.48753612908506148525e-2,
        1.36929880922735805310e-1,
        5.99832206555887937690e-1,
        1.0,
    ),
)
CENTRE_HALF_WIDTH = 0.85
TAIL_START, FAR_TAIL_START = 1.6, 5.0


def erfinv(self: Any) -> Any:
    """Translate `erfinv(Tensor self) -> Tensor`: ±inf at ±1, NaN beyond."""
    if self.dtype in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16):
        # The coefficients do not fit into 16 bits.
        wide = op.Cast(self, to=ir.DataType.FLOAT)
        return op.Cast(_erfinv(wide, ir.DataType.FLOAT), to=self.dtype)
    return _erfinv(self, self.dtype)


def _erfinv(self: Any, dtype: ir.DataType) -> Any:
    number = partial(_number, dtype)
    one, size = number(1), op.Abs(self)
    beyond, inside = op.Sub(one, size), op.Less(size, one)
    square = op.Mul(number(0.25), op.Mul(self, self))
    centre = _quotient(CENTRE, op.Sub(number(0.180625), square), number)
    # Outside the domain any finite value will do: it is not selected.
    share = op.Where(inside, op.Mul(beyond, number(0.5)), number(0.5))
    distance = op.Sqrt(op.Neg(op.Log(share)))
    tail = _quotient(TAIL, op.Sub(distance, number(TAIL_START)), number)
    if dtype == ir.DataType.DOUBLE:
        # 1 - |x| of narrower types is never small enough to come here.
        far = _quotient(FAR_TAIL, op.Sub(distance, number(FAR_TAIL_START)), number)
        tail = op.Where(op.LessOrEqual(distance, number(FAR_TAIL_START)), tail, far)
    normal = op.Where(
        op.LessOrEqual(size, number(CENTRE_HALF_WIDTH)),
        op.Mul(op.Mul(self, number(0.5)), centre),
        op.Mul(op.Sign(self), tail),
    )
    return op.Where(inside, op.Mul(normal, number(math.sqrt(0.5))), op.Div(self, op.Sqrt(beyond)))


def _number(dtype: ir.DataType, value: float) -> Any:
    """Return a constant of the tensor's own type: a bare Python number may become float32."""
    return op.Constant(value=ir.tensor(value, dtype=dtype))


def _quotient(quotient: Quotient, x: Any, number: Number) -> Any:
    numerator, denominator = quotient
    return op.Div(_polynomial(numerator, x, number), _polynomial(denominator, x, number))


def _polynomial(coefficients: Sequence[float], x: Any, number: Number) -> Any:
    total = number(coefficients[0])
    for coefficient in coefficients[1:]:
        total = op.Add(op.Mul(total, x), number(coefficient))
    return total


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
