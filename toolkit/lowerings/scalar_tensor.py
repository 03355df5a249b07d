"""Python numbers in the tensor's own type.

The exporter turns every number of a formula into a tensor by this operator, and torch's translation
goes through float32: a float64 model would be exported with `0.3` as `0.30000001192`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import onnx_ir as ir
import torch
from onnxscript import opset18 as op

from toolkit.core.protocols import Example


def scalar_tensor(
    s: float,
    dtype: int = ir.DataType.FLOAT,
    layout: str = "",
    device: str = "",
    pin_memory: bool = False,  # noqa: FBT001, FBT002  (the operator's own signature)
) -> Any:
    """Translate `scalar_tensor`.

    `scalar_tensor(Scalar s, *, ScalarType? dtype=None, Layout? layout=None, Device? device=None,
    bool? pin_memory=None) -> Tensor`
    """
    del layout, device, pin_memory
    kind = ir.DataType(dtype if dtype >= 0 else ir.DataType.FLOAT)
    # The annotation keeps numbers as they are; a size of the graph comes as a tensor all the same.
    value: Any = s
    if isinstance(value, bool | int | float):
        return op.Constant(value=ir.tensor(value, dtype=kind))
    return op.Cast(value, to=kind)


class ScalarTensor:
    """A number as a tensor."""

    def __call__(self) -> Mapping[torch._ops.OpOverload, Callable[..., Any]]:
        """Return the table."""
        return {torch.ops.aten.scalar_tensor.default: scalar_tensor}

    def examples(self) -> Mapping[str, Example]:
        """Return numbers beside tensors: fractions, whole and large ones, infinity, sizes."""
        x = torch.linspace(-1, 1, 9, dtype=torch.float64)
        whole = torch.arange(5)
        return {
            "fraction": Example(lambda v: (v + 0.3) * 0.7 - math.pi, (x,)),
            "whole": Example(lambda v: v - 3, (x,)),
            "infinity": Example(lambda v: torch.where(v > 0, v, -math.inf), (x,)),
            "integers": Example(lambda v: v + 9_007_199_254_740_993, (whole,)),
            "integers and a fraction": Example(lambda v: v * 0.3, (whole,)),
            "size": Example(lambda v: v / v.shape[0], (x,)),
        }


lowering = ScalarTensor()
