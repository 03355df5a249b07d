"""Bins of sorted edges, by comparison and sum: what TensorRT takes too."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import onnx_ir as ir
import torch
from onnx_ir import DataType
from onnxscript import opset18 as op

from toolkit.core.protocols import Example


def searchsorted(
    sorted_sequence: Any,
    self: Any,
    out_int32: bool = False,  # noqa: FBT001, FBT002  (the operator's own signature)
    right: bool = False,  # noqa: FBT001, FBT002  (the operator's own signature)
    side: str = "",
    sorter: Any = None,
) -> Any:
    """Translate `searchsorted.Tensor`.

    `searchsorted(Tensor sorted_sequence, Tensor self, *, bool out_int32=False, bool right=False,
    str? side=None, Tensor? sorter=None) -> Tensor`
    """
    if sorter is not None:
        sorted_sequence = op.GatherElements(sorted_sequence, sorter, axis=-1)
    edges = op.Unsqueeze(sorted_sequence, [-2])
    return _count(edges, self, out_int32=out_int32, right=right or side == "right")


def bucketize(
    self: Any,
    boundaries: Any,
    out_int32: bool = False,  # noqa: FBT001, FBT002  (the operator's own signature)
    right: bool = False,  # noqa: FBT001, FBT002  (the operator's own signature)
) -> Any:
    """Translate `bucketize.Tensor`.

    `bucketize(Tensor self, Tensor boundaries, *, bool out_int32=False, bool right=False) -> Tensor`
    """
    return _count(boundaries, self, out_int32=out_int32, right=right)


def searchsorted_scalar(
    sorted_sequence: Any,
    self: float,
    out_int32: bool = False,  # noqa: FBT001, FBT002  (the operator's own signature)
    right: bool = False,  # noqa: FBT001, FBT002  (the operator's own signature)
    side: str = "",
    sorter: Any = None,
) -> Any:
    """Translate `searchsorted.Scalar`, whose edges are one row; their order does not matter.

    `searchsorted.Scalar(Tensor sorted_sequence, Scalar self, *, bool out_int32=False, bool
    right=False, str? side=None, Tensor? sorter=None) -> Tensor`
    """
    del sorter
    return bucketize_scalar(self, sorted_sequence, out_int32, right or side == "right")


def bucketize_scalar(
    self: float,
    boundaries: Any,
    out_int32: bool = False,  # noqa: FBT001, FBT002  (the operator's own signature)
    right: bool = False,  # noqa: FBT001, FBT002  (the operator's own signature)
) -> Any:
    """Translate `bucketize.Scalar`.

    `bucketize.Scalar(Scalar self, Tensor boundaries, *, bool out_int32=False, bool right=False) ->
    Tensor`
    """
    if isinstance(self, float) and not boundaries.dtype.is_floating_point():
        boundaries = op.Cast(boundaries, to=DataType.FLOAT)
    value = op.Constant(value=ir.tensor([self], dtype=boundaries.dtype))
    return _count(boundaries, op.Squeeze(value), out_int32=out_int32, right=right)


def _count(edges: Any, values: Any, *, out_int32: bool, right: bool) -> Any:
    """Count the edges that lie before each value; as in torch, NaN lies behind all of them."""
    reached = op.Greater if right else op.GreaterOrEqual
    before = op.Not(reached(edges, op.Unsqueeze(values, [-1])))
    dtype = DataType.INT32 if out_int32 else DataType.INT64
    return op.ReduceSum(op.Cast(before, to=dtype), [-1], keepdims=0)


class SearchSorted:
    """`searchsorted`, and `bucketize`, its form for one row of edges."""

    def __call__(self) -> Mapping[torch._ops.OpOverload, Callable[..., Any]]:
        """Return the table."""
        return {
            torch.ops.aten.searchsorted.Tensor: searchsorted,
            torch.ops.aten.searchsorted.Scalar: searchsorted_scalar,
            torch.ops.aten.bucketize.Tensor: bucketize,
            torch.ops.aten.bucketize.Scalar: bucketize_scalar,
        }

    def examples(self) -> Mapping[str, Example]:
        """Return rows of edges, one row, ties, values outside, infinities and NaN."""
        draws = torch.Generator().manual_seed(0)
        rows = torch.randn(5, 4, 9, generator=draws, dtype=torch.float64).sort(-1).values
        values = torch.randn(5, 4, 6, generator=draws, dtype=torch.float64)
        ties = torch.cat([rows[..., :3], values, rows[..., -1:]], dim=-1)
        shuffled = rows.flip(-1)
        row = torch.tensor([-1.0, 0.0, 0.0, 2.5], dtype=torch.float64)
        odd = torch.tensor([[-math.inf, -1.0, 0.0], [2.5, math.inf, math.nan]], dtype=row.dtype)
        return {
            "rows": Example(torch.searchsorted, (rows, ties)),
            "right": Example(lambda e, x: torch.searchsorted(e, x, right=True), (rows, ties)),
            "side": Example(lambda e, x: torch.searchsorted(e, x, side="right"), (rows, ties)),
            "left": Example(lambda e, x: torch.searchsorted(e, x, side="left"), (rows, ties)),
            "sorter": Example(
                lambda e, x: torch.searchsorted(e, x, sorter=e.argsort(-1)), (shuffled, ties)
            ),
            "one row": Example(torch.searchsorted, (row, odd), shared=(0,)),
            "bucketize": Example(torch.bucketize, (odd, row), shared=(1,)),
            "bucketize right int32": Example(
                lambda x, e: torch.bucketize(x, e, right=True, out_int32=True),
                (odd, row),
                shared=(1,),
            ),
            **{
                f"{value} of one row": Example(
                    lambda e, value=value: torch.searchsorted(e, value, right=True), (row,), (0,)
                )
                for value in (0, 0.0, 0.5, -2.0, math.inf)
            },
            "a number": Example(lambda e: torch.bucketize(0.0, e, out_int32=True), (row,), (0,)),
            "a fraction among integers": Example(
                lambda e: torch.bucketize(1.5, e), (torch.tensor([1, 3, 3]),), (0,)
            ),
            "integers": Example(
                torch.bucketize, (torch.arange(6), torch.tensor([1, 3, 3])), shared=(1,)
            ),
        }


lowering = SearchSorted()
