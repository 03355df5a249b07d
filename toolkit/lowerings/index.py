"""Reading along one axis by integer positions, as one Gather.

torch translates it as a Transpose, a GatherND and another Transpose.
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
    """Translate `index(Tensor self, Tensor?[] indices) -> Tensor`; all but one axis as torch."""
    axes = [axis for axis, given in enumerate(indices) if given is not None]
    if len(axes) != 1 or indices[axes[0]].dtype not in INTEGERS:
        return core.aten_index(self, indices)
    return op.Gather(self, indices[axes[0]], axis=axes[0])


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
