"""Max pools with the places of the maxima, by comparisons, and max unpools, by one scatter.

TensorRT takes neither the second output of `MaxPool` nor `MaxUnpool`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import product
from typing import Any

import torch
from onnx_ir import DataType
from onnxscript import opset18 as op
from torch.nn import functional as F

from toolkit.core.protocols import Example

SIDES = (2, 3)


def max_pool2d_with_indices(
    self: Any,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    ceil_mode: bool = False,  # noqa: FBT001, FBT002  (the ATen signature)
) -> tuple[Any, Any]:
    """Translate `max_pool2d_with_indices(Tensor self, ...) -> (Tensor, Tensor)`.

    Of equal pixels the first in raster order counts, as in torch. Where only the maxima are read,
    what finds their places is dead and goes.
    """
    single = len(self.shape) == len(SIDES) + 1
    x = op.Unsqueeze(self, [0]) if single else self
    kernel, steps, pads, spread = (
        _pair(value) for value in (kernel_size, stride or kernel_size, padding, dilation)
    )
    largest, _ = op.MaxPool(
        x,
        ceil_mode=int(ceil_mode),
        dilations=spread,
        kernel_shape=kernel,
        pads=[*pads, *pads],
        strides=steps,
    )
    places = _places(x, largest, kernel, steps, pads, spread)
    if single:
        return op.Squeeze(largest, [0]), op.Squeeze(places, [0])
    return largest, places


def max_unpool2d(self: Any, indices: Any, output_size: Sequence[Any]) -> Any:
    """Translate `max_unpool2d(Tensor self, Tensor indices, SymInt[2] output_size) -> Tensor`."""
    sides = [
        op.Constant(value_ints=[size]) if isinstance(size, int) else op.Reshape(size, [1])
        for size in output_size
    ]
    planes = op.Shape(self, start=0, end=len(self.shape) - len(SIDES))
    flat = op.Concat(planes, op.Constant(value_ints=[-1]), axis=0)
    zero = op.CastLike(op.Constant(value_float=0.0), self)
    empty = op.Expand(zero, op.Concat(planes, op.Mul(*sides), axis=0))
    filled = op.ScatterElements(empty, op.Reshape(indices, flat), op.Reshape(self, flat), axis=-1)
    return op.Reshape(filled, op.Concat(planes, *sides, axis=0))


def _places(
    x: Any,
    largest: Any,
    kernel: Sequence[int],
    steps: Sequence[int],
    pads: Sequence[int],
    spread: Sequence[int],
) -> Any:
    """Return where each maximum stands in its plane, `row · width + column`.

    The kernel's taps are held against the maximum, the last one first: the earliest that is equal
    overwrites the others.
    """
    counts = [op.Shape(largest, start=axis, end=axis + 1) for axis in SIDES]
    width = op.Shape(x, start=SIDES[1], end=SIDES[1] + 1)
    margins = [
        pad + reach * (side - 1) + step
        for pad, reach, side, step in zip(pads, spread, kernel, steps, strict=True)
    ]
    # Nothing equals NaN: around the picture no maximum is found.
    padded = op.Pad(
        x,
        op.Constant(value_ints=[0, 0, *pads, 0, 0, *margins]),
        op.CastLike(op.Constant(value_float=float("nan")), x),
    )
    rows, columns = (
        op.Sub(op.Mul(op.Range(0, op.Squeeze(count, [0]), 1), step), pad)
        for count, step, pad in zip(counts, steps, pads, strict=True)
    )
    corners = op.Add(op.Mul(op.Unsqueeze(rows, [1]), width), columns)
    places = op.Constant(value_ints=[0])
    for tap in reversed(list(product(*(range(side) for side in kernel)))):
        starts = [place * reach for place, reach in zip(tap, spread, strict=True)]
        ends = [
            op.Add(op.Mul(op.Sub(count, 1), step), start + 1)
            for count, step, start in zip(counts, steps, starts, strict=True)
        ]
        seen = op.Slice(padded, starts, op.Concat(*ends, axis=0), list(SIDES), list(steps))
        own = op.Add(corners, op.Add(op.Mul(width, starts[0]), starts[1]))
        places = op.Where(op.Equal(seen, largest), own, places)
    return op.Cast(places, to=DataType.INT64)


def _pair(value: Sequence[int]) -> list[int]:
    return [int(item) for item in (value if len(value) == len(SIDES) else [*value] * len(SIDES))]


def _there_and_back(x: torch.Tensor, **shape: Any) -> torch.Tensor:
    largest, places = F.max_pool2d(x, **shape, return_indices=True)
    shape.pop("ceil_mode", None)
    shape.pop("dilation", None)
    return F.max_unpool2d(largest, places, **shape, output_size=x.shape[-2:])


class MaxPool:
    """Max pools with indices, and max unpools."""

    def __call__(self) -> Mapping[torch._ops.OpOverload, Callable[..., Any]]:
        """Return the table."""
        return {
            torch.ops.aten.max_pool2d_with_indices.default: max_pool2d_with_indices,
            torch.ops.aten.max_unpool2d.default: max_unpool2d,
        }

    def examples(self) -> Mapping[str, Example]:
        """Return ties, paddings, strides, dilations, windows over the edge, and the way back."""
        draws = torch.Generator().manual_seed(0)
        x = torch.randn(4, 3, 9, 8, generator=draws, dtype=torch.float64)
        ties = x.relu().round()
        pool = partial(F.max_pool2d, return_indices=True)
        return {
            "plain": Example(partial(pool, kernel_size=2), (x,)),
            "ties": Example(partial(pool, kernel_size=3), (ties,)),
            "padded and overlapping": Example(
                partial(pool, kernel_size=3, stride=2, padding=1), (ties,)
            ),
            "dilated": Example(
                partial(pool, kernel_size=(2, 3), stride=(2, 1), padding=(1, 0), dilation=2),
                (ties,),
            ),
            "over the edge": Example(partial(pool, kernel_size=2, ceil_mode=True), (x,)),
            "one picture": Example(partial(pool, kernel_size=2), (x,)),
            "unpooled": Example(partial(_there_and_back, kernel_size=2), (x[:, :, :8],)),
            "unpooled to an odd side": Example(partial(_there_and_back, kernel_size=2), (x,)),
        }


lowering = MaxPool()
