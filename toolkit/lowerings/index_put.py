"""Assignments through masks, without the NonZero that TensorRT refuses.

`x[mask] = v` chooses between old and new by `Where`. Where there is one new value for every
selected element, each finds its own by counting the selected ones before it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from onnx_ir import DataType
from onnxscript import opset18 as op
from onnxscript.function_libs.torch_lib.ops import core

from toolkit.core.protocols import Example


def index_put(
    self: Any,
    indices: Sequence[Any],
    values: Any,
    accumulate: bool = False,  # noqa: FBT001, FBT002  (the operator's own signature)
) -> Any:
    """Translate `index_put`; through anything but one leading mask as torch does.

    `index_put(Tensor self, Tensor?[] indices, Tensor values, bool accumulate=False) -> Tensor`
    """
    if len(indices) != 1 or indices[0] is None or indices[0].dtype != DataType.BOOL:
        return core.aten_index_put(self, indices, values, accumulate)
    mask, trailing = indices[0], len(self.shape) - len(indices[0].shape)
    one_each = len(values.shape) == trailing + 1 and values.shape[0] != 1
    new = _spread(mask, values, self) if one_each else values
    if not one_each and len(values.shape) == trailing + 1:
        new = op.Squeeze(values, [0])
    chosen = op.Unsqueeze(mask, list(range(-trailing, 0))) if trailing else mask
    return op.Where(chosen, op.Add(self, new) if accumulate else new, self)


def masked_scatter(self: Any, mask: Any, source: Any) -> Any:
    """Translate `masked_scatter(Tensor self, Tensor mask, Tensor source) -> Tensor`."""
    shape = op.Shape(op.Where(mask, self, self))
    whole = op.Expand(mask, shape)
    return op.Where(whole, _spread(whole, op.Reshape(source, [-1]), None, shape=shape), self)


def _spread(mask: Any, values: Any, like: Any, *, shape: Any = None) -> Any:
    """Return each selected element's own value in its place, and anything elsewhere.

    Arguments:
        mask: Boolean, `(leading)`.
        values: `(selected, trailing)`, more than needed allowed.
        like: Tensor of the shape `(leading, trailing)`, or nothing where `shape` is given.
        shape: That shape.
    """
    chosen = op.Cast(op.Reshape(mask, [-1]), to=DataType.INT64)
    # Places count from one, and nothing selected means place zero: values may be empty.
    places = op.Mul(op.CumSum(chosen, op.Constant(value_int=0)), chosen)
    trailing = op.Shape(values, start=1)
    blank = op.Expand(op.CastLike(op.Constant(value_float=0.0), values), _joined([1], trailing))
    found = op.Gather(op.Concat(blank, values, axis=0), places, axis=0)
    return op.Reshape(found, op.Shape(like) if shape is None else shape, allowzero=1)


def _joined(first: list[int], rest: Any) -> Any:
    return op.Concat(op.Constant(value_ints=first), rest, axis=0)


class IndexPut:
    """Assignments through a mask, with one value, a row of them, or one for each selected."""

    def __call__(self) -> Mapping[torch._ops.OpOverload, Callable[..., Any]]:
        """Return the table."""
        return {
            torch.ops.aten.index_put.default: index_put,
            torch.ops.aten.masked_scatter.default: masked_scatter,
        }

    def examples(self) -> Mapping[str, Example]:
        """Return every kind of value, masks of rows, nothing and everything selected, indices."""
        draws = torch.Generator().manual_seed(0)
        x = torch.randn(5, 4, 3, generator=draws, dtype=torch.float64)
        row = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)

        def put(v: torch.Tensor, mask: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
            return torch.index_put(v, (mask,), new)

        return {
            "one value": Example(lambda v: put(v, v > 0.3, v.new_tensor(7.0)), (x,)),
            "own values": Example(lambda v: put(v, v > 0.3, torch.exp(v[v > 0.3])), (x,)),
            "nothing": Example(lambda v: put(v, v > 99, torch.exp(v[v > 99])), (x,)),
            "everything": Example(lambda v: put(v, v < 99, torch.exp(v[v < 99])), (x,)),
            "rows, own values": Example(
                lambda v: put(v, v[..., 0] > 0, 2 * v[v[..., 0] > 0]), (x,)
            ),
            "rows, one row": Example(lambda v, r: put(v, v[..., 0] > 0, r), (x, row), shared=(1,)),
            "rows, one value each": Example(
                lambda v, r: put(v, v[:, 0, 0] > 0, r[:1]), (x, row), shared=(1,)
            ),
            "added": Example(
                lambda v: torch.index_put(v, (v > 0,), v.new_tensor(7.0), accumulate=True), (x,)
            ),
            "indices": Example(
                lambda v, r: torch.index_put(v, (torch.tensor([0]), torch.tensor([2])), r),
                (x, row),
                shared=(1,),
            ),
            "scatter": Example(lambda v: v.masked_scatter(v > 0.3, torch.exp(v)), (x,)),
            "scatter, broadcast": Example(
                lambda v: v.masked_scatter(v[:, :1] > 0.3, torch.exp(v)), (x,)
            ),
        }


lowering = IndexPut()
