"""What several lowerings build their formulas from."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import onnx_ir as ir
from onnxscript import opset18 as op

Coefficients = Sequence[float]
Quotient = tuple[Coefficients, Coefficients]
Number = Callable[[float], Any]
NARROW = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def numbers_like(value: Any) -> Number:
    """Return what makes constants of the tensor's type: a bare number may become float32."""
    dtype = value.dtype

    def number(constant: float) -> Any:
        return op.Constant(value=ir.tensor(constant, dtype=dtype))

    return number


def is_double(value: Any) -> bool:
    """Return whether a tensor is float64, which needs the longer series."""
    return bool(value.dtype == ir.DataType.DOUBLE)


def widened(translation: Callable[..., Any]) -> Callable[..., Any]:
    """Make a translation of one tensor compute 16-bit types, and whole numbers, in float32.

    Neither hold the coefficients; torch answers whole numbers in float32 too.
    """

    @functools.wraps(translation)
    def translate(self: Any) -> Any:
        if self.dtype in NARROW:
            return op.Cast(translation(op.Cast(self, to=ir.DataType.FLOAT)), to=self.dtype)
        if not self.dtype.is_floating_point():
            return translation(op.Cast(self, to=ir.DataType.FLOAT))
        return translation(self)

    return translate


def polynomial(coefficients: Coefficients, x: Any, number: Number) -> Any:
    """Return the polynomial's value by Horner's rule; coefficients from the highest degree down."""
    total = number(coefficients[0])
    for coefficient in coefficients[1:]:
        total = op.Add(op.Mul(total, x), number(coefficient))
    return total


def quotient(pair: Quotient, x: Any, number: Number) -> Any:
    """Return the quotient of two polynomials; one divided by nothing is only a polynomial."""
    above, below = pair
    top = polynomial(above, x, number)
    return top if len(below) == 1 else op.Div(top, polynomial(below, x, number))


def log_one_plus(share: Any, number: Number) -> Any:
    """Return `log(1 + share)` for `-0.9 <= share <= 1`, to the last digits also near zero.

    What rounding takes from `1 + share` is added again: `log(u + c) ≈ log(u) + c`.
    """
    one = number(1)
    total = op.Add(share, one)
    return op.Add(op.Log(total), op.Sub(share, op.Sub(total, one)))


def log_one_plus_exp(exponent: Any, number: Number) -> Any:
    """Return `log(1 + exp(-|exponent|))`, to the last digits."""
    return log_one_plus(op.Exp(op.Neg(op.Abs(exponent))), number)
