"""Reading along one axis by integer positions, as a Gather of whole blocks.

torch translates it as a Transpose, a GatherND and another Transpose, whatever the axis. A Gather of
single numbers takes five times as long in ONNX Runtime as a Gather of rows between two Transposes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from onnx_ir import DataType
from onnxscript import opset18 as op
from onnxscript.function_libs.torch_lib.ops import core

from toolkit.core.protocols import Example

INTEGERS = (DataType.INT32, DataType.INT64)


def index(self: Any, indices: Sequence[Any]) -> Any:
    """Translate `index(Tensor self, Tensor?[] indices) -> Tensor`; several axes as torch does."""
    axes = [axis for axis, given in enumerate(indices) if given is not None]
    if len(axes) != 1 or indices[axes[0]].dtype not in INTEGERS:
        return core.aten_index(self, indices)
    (axis,) = axes
    rank, places = len(self.shape), indices[axis]
    if axis == 0 or axis < rank - 1 or len(places.shape) != 1:
        return op.Gather(self, places, axis=axis)
    rows = op.Transpose(self, perm=[axis, *range(axis)])
    return op.Transpose(op.Gather(rows, places, axis=0), perm=[*range(1, rank), 0])


class Index:
    """Reading by positions."""

    def __call__(self) -> Mapping[torch._ops.OpOverload, Callable[..., Any]]:
        """Return the table."""
        return {torch.ops.aten.index.Tensor: index}

    def examples(self) -> Mapping[str, Example]:
        """Return axes, positions from the end, a table of positions, two axes at once."""
        draws = torch.Generator().manual_seed(0)
        x = torch.randn(5, 4, 3, generator=draws, dtype=torch.float64)
        places = torch.tensor([2, 0, -1, 2])
        return {
            "middle axis": Example(lambda v, i: v[:, i], (x, places), shared=(1,)),
            "last axis": Example(lambda v, i: v[..., i], (x, places), shared=(1,)),
            "table": Example(lambda v, i: v[:, i.reshape(2, 2)], (x, places), shared=(1,)),
            "two axes": Example(lambda v, i: v[:, i, i % 3], (x, places), shared=(1,)),
        }


lowering = Index()
