"""Running maxima and minima with their places, by doubling.

References:
    Data Parallel Algorithms, Hillis and Steele, Communications of the ACM 29 (1986), 1170-1183
    (no arXiv number).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from onnx_ir import DataType
from onnxscript import opset18 as op

from toolkit.core.errors import ExportError
from toolkit.core.protocols import Example


def cummax(self: Any, dim: int) -> Any:
    """Translate `cummax(Tensor self, int dim) -> (Tensor values, Tensor indices)`.

    Of equal values the last counts, and NaN is beyond all others, as in torch.

    Raises:
        ExportError: The axis is dynamic.
    """
    return _extremes(self, dim, op.Less, "cummax")


def cummin(self: Any, dim: int) -> Any:
    """Translate `cummin(Tensor self, int dim) -> (Tensor values, Tensor indices)`.

    Of equal values the last counts, and NaN is beyond all others, as in torch.

    Raises:
        ExportError: The axis is dynamic.
    """
    return _extremes(self, dim, op.Greater, "cummin")


def _extremes(x: Any, dim: int, loses: Callable[..., Any], name: str) -> tuple[Any, Any]:
    rank = len(x.shape)
    if rank == 0:
        return op.Identity(x), op.Constant(value_int=0)
    axis = dim % rank
    length = x.shape[axis]
    if not isinstance(length, int):
        raise ExportError(
            f"{name} runs along a dynamic axis",
            where=f"axis {axis}, length {length}",
            next_step="fix that axis: give its size instead of a name in the input's dims",
        )
    # Boolean order is that of numbers.
    narrow = x.dtype == DataType.BOOL
    values = op.Cast(x, to=DataType.INT32) if narrow else op.Identity(x)
    row = op.Reshape(
        op.Constant(value_ints=list(range(length))),
        [length if place == axis else 1 for place in range(rank)],
    )
    places, step = op.Expand(row, op.Shape(x)), 1
    floating = x.dtype.is_floating_point()

    def parts(tensor: Any) -> tuple[Any, Any, Any]:
        ends = ((0, step), (0, length - step), (step, length))
        head, before, own = (op.Slice(tensor, [a], [b], [axis]) for a, b in ends)
        return head, before, own

    while step < length:
        head, before, own = parts(values)
        head_place, before_place, own_place = parts(places)
        stays = loses(own, before)
        if floating:
            stays = op.And(op.Or(stays, op.IsNaN(before)), op.Not(op.IsNaN(own)))
        values = op.Concat(head, op.Where(stays, before, own), axis=axis)
        places = op.Concat(head_place, op.Where(stays, before_place, own_place), axis=axis)
        step *= 2
    return (op.Cast(values, to=DataType.BOOL) if narrow else values), places


class CumMax:
    """Running extremes."""

    def __call__(self) -> Mapping[torch._ops.OpOverload, Callable[..., Any]]:
        """Return the table."""
        return {torch.ops.aten.cummax.default: cummax, torch.ops.aten.cummin.default: cummin}

    def examples(self) -> Mapping[str, Example]:
        """Return ties, infinities and NaN, axes and lengths, whole numbers."""
        draws = torch.Generator().manual_seed(0)
        x = torch.randn(5, 13, 3, generator=draws, dtype=torch.float64)
        ties = (2 * x).round()
        holes = torch.where(x.abs() < 0.2, math.nan, torch.where(x > 1.5, math.inf, ties))
        whole = torch.randint(-3, 4, (4, 9), generator=draws)
        examples = {}
        for name, function in (("cummax", torch.cummax), ("cummin", torch.cummin)):
            middle, last = partial(function, dim=1), partial(function, dim=-1)
            examples[name] = Example(middle, (x,))
            examples[f"{name}, last axis"] = Example(last, (ties,))
            examples[f"{name}, ties"] = Example(middle, (ties,))
            examples[f"{name}, inf and nan"] = Example(middle, (holes,))
            examples[f"{name}, length 1"] = Example(middle, (x[:, :1],))
            examples[f"{name}, integers"] = Example(last, (whole,))
        return examples


lowering = CumMax()
