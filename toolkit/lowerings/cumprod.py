"""The cumulative product, by doubling: zeros and signs come out right, unlike Exp(CumSum(Log)).

References:
    Data Parallel Algorithms, Hillis and Steele, Communications of the ACM 29 (1986), 1170-1183
    (no arXiv number).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from onnx_ir import DataType
from onnxscript import opset18 as op

from toolkit.core.errors import ExportError
from toolkit.core.protocols import Example


def cumprod(self: Any, dim: int, dtype: int = -1) -> Any:
    """Translate `cumprod(Tensor self, int dim, *, ScalarType? dtype=None) -> Tensor`.

    Products are taken pairwise, in `log2` of the axis' length steps: a product that overflows in
    between may do so at another position than torch's.

    Raises:
        ExportError: The axis is dynamic.
    """
    rank = len(self.shape)
    if rank == 0:
        return _in_type(self, dtype)
    axis = dim % rank
    length = self.shape[axis]
    if not isinstance(length, int):
        raise ExportError(
            "cumprod runs along a dynamic axis",
            where=f"axis {axis}, length {length}",
            next_step="fix that axis: give its size instead of a name in the input's dims",
        )
    total = _in_type(self, dtype)
    step = 1
    while step < length:
        head = op.Slice(total, [0], [step], [axis])
        before = op.Slice(total, [0], [length - step], [axis])
        own = op.Slice(total, [step], [length], [axis])
        total = op.Concat(head, op.Mul(before, own), axis=axis)
        step *= 2
    return total


def _in_type(value: Any, dtype: int | None) -> Any:
    """Return the value in the asked type; torch multiplies integers and booleans as int64."""
    if dtype is not None and dtype >= 0:
        return op.Cast(value, to=dtype)
    if value.dtype.is_floating_point():
        return op.Identity(value)
    return op.Cast(value, to=DataType.INT64)


class CumProd:
    """The cumulative product, which ONNX lacks before opset 26 and TensorRT altogether."""

    def __call__(self) -> Mapping[torch._ops.OpOverload, Callable[..., Any]]:
        """Return the table."""
        return {torch.ops.aten.cumprod.default: cumprod}

    def examples(self) -> Mapping[str, Example]:
        """Return both signs, zeros, infinities, other axes, short axes and other types."""
        draws = torch.Generator().manual_seed(0)
        x = torch.randn(5, 33, 3, generator=draws, dtype=torch.float64)
        holes = torch.where(x[:, :, 0].abs() < 0.2, 0.0, x[:, :, 0])
        holes[0, 5], holes[1, 3] = torch.inf, torch.nan
        whole = torch.randint(-3, 4, (4, 7), generator=draws)
        return {
            "middle axis": Example(lambda v: torch.cumprod(v, 1), (x,)),
            "last axis": Example(lambda v: torch.cumprod(v, -1), (x,)),
            "zeros, inf and nan": Example(lambda v: torch.cumprod(v, 1), (holes,)),
            "length 1": Example(lambda v: torch.cumprod(v, 1), (x[:, :1],)),
            "length 16": Example(lambda v: torch.cumprod(v, 1), (x[:, :16],)),
            "integers": Example(lambda v: torch.cumprod(v.int(), 1), (whole,)),
            "to float64": Example(lambda v: torch.cumprod(v, 1, dtype=torch.float64), (whole,)),
        }


lowering = CumProd()
