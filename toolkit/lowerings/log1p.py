"""`log(1 + x)` that keeps the digits of small x, which torch's own `Log(Add(x, 1))` loses.

References:
    What Every Computer Scientist Should Know About Floating-Point Arithmetic, Goldberg, ACM
    Computing Surveys 23 (1991), 5-48, theorem 4 (no arXiv number).
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
def log1p(self: Any) -> Any:
    """Translate `log1p(Tensor self) -> Tensor`: -inf at -1, NaN below."""
    number = numbers_like(self)
    one = number(1)
    total = op.Add(self, one)
    lost = op.Sub(self, op.Sub(total, one))
    # Beyond a half the loss is below the last digit, and infinite minus infinite at infinity.
    small = op.Less(op.Abs(self), number(0.5))
    return op.Add(op.Log(total), op.Where(small, lost, number(0)))


class Log1p:
    """The logarithm of one plus a small number."""

    def __call__(self) -> Mapping[torch._ops.OpOverload, Callable[..., Any]]:
        """Return the table."""
        return {torch.ops.aten.log1p.default: log1p}

    def examples(self) -> Mapping[str, Example]:
        """Return small numbers alone, where no large answer hides their error, and the edges."""
        grid = torch.linspace(-0.99, 4, 500, dtype=torch.float64)
        small = torch.logspace(-38, -6, 200, dtype=torch.float64)
        tiny = torch.logspace(-42, -37, 20, dtype=torch.float64)
        edges = [0.0, -0.0, 1e-45, -1.0, -2.0, -0.5, 0.5, 1e30, math.inf, -math.inf, math.nan]
        return {
            "grid": Example(torch.log1p, (grid,)),
            "small": Example(lambda x: torch.log1p(x) / x, (torch.cat([small, -small]),)),
            "denormal": Example(torch.log1p, (tiny,)),
            "edges": Example(torch.log1p, (torch.tensor(edges, dtype=torch.float64),)),
            "integers": Example(torch.log1p, (torch.arange(5),)),
        }


lowering = Log1p()
