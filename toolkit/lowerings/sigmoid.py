"""The sigmoid, to its last digits in the lower tail too.

ONNX Runtime's own is good to 1e-7 of one, and zero from about -17 on: 10 % off at -16. A flow
that divides by a sigmoid, or takes its logarithm, needs the relative digits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from onnxscript import opset18 as op

from toolkit.core.protocols import Example
from toolkit.lowerings._maths import numbers_like, widened


@widened
def sigmoid(self: Any) -> Any:
    """Translate `sigmoid(Tensor self) -> Tensor`: `1 / (1 + exp(-x))`."""
    number = numbers_like(self)
    return op.Reciprocal(op.Add(op.Exp(op.Neg(self)), number(1)))


class Sigmoid:
    """The sigmoid."""

    def __call__(self) -> Mapping[torch._ops.OpOverload, Callable[..., Any]]:
        """Return the table."""
        return {torch.ops.aten.sigmoid.default: sigmoid}

    def examples(self) -> Mapping[str, Example]:
        """Return the middle, the lower tail on a logarithmic scale, and edges."""
        middle = torch.linspace(-12, 24, 300, dtype=torch.float64)
        tail = torch.linspace(-80, -12, 100, dtype=torch.float64)
        ends = [0.0, -0.0, 1e-45, 88.0, -104.0, 1e4, -1e4, math.inf, -math.inf, math.nan]
        return {
            "middle": Example(torch.sigmoid, (middle,)),
            "tail": Example(lambda x: torch.sigmoid(x).log(), (tail,)),
            "edges": Example(torch.sigmoid, (torch.tensor(ends, dtype=torch.float64),)),
        }


lowering = Sigmoid()
