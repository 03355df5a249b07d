"""Distances between the rows of two matrices, by differences.

torch's own way for more than 25 rows, by products, loses the digits of near rows; this one is as
exact as its other way, and its differences are `(…, rows, other rows, features)` large.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from onnxscript import opset18 as op

from toolkit.core.protocols import Example
from toolkit.lowerings._maths import numbers_like


def cdist(x1: Any, x2: Any, p: float = 2.0, compute_mode: int | None = None) -> Any:
    """Translate `_cdist_forward`; `compute_mode` chooses between torch's ways only.

    `_cdist_forward(Tensor x1, Tensor x2, float p, int? compute_mode) -> Tensor`
    """
    del compute_mode
    number = numbers_like(x1)
    apart = op.Abs(op.Sub(op.Unsqueeze(x1, [-2]), op.Unsqueeze(x2, [-3])))
    if p == math.inf:
        return op.ReduceMax(apart, [-1], keepdims=0)
    if p == 0:
        differs = op.CastLike(op.Not(op.Equal(apart, number(0))), apart)
        return op.ReduceSum(differs, [-1], keepdims=0)
    if p == 1:
        return op.ReduceSum(apart, [-1], keepdims=0)
    if p == 2:
        return op.Sqrt(op.ReduceSum(op.Mul(apart, apart), [-1], keepdims=0))
    total = op.ReduceSum(op.Pow(apart, number(p)), [-1], keepdims=0)
    return op.Pow(total, number(1 / p))


class CDist:
    """Distances of every norm."""

    def __call__(self) -> Mapping[torch._ops.OpOverload, Callable[..., Any]]:
        """Return the table; torch.export may keep `cdist` whole."""
        names = torch.ops.aten
        return {names._cdist_forward.default: cdist, names.cdist.default: cdist}  # noqa: SLF001  (torch's own name)

    def examples(self) -> Mapping[str, Example]:
        """Return every norm, rows that are equal, and one matrix for all."""
        draws = torch.Generator().manual_seed(0)
        x = torch.randn(5, 4, 3, generator=draws, dtype=torch.float64)
        y = torch.cat([torch.randn(5, 6, 3, generator=draws, dtype=torch.float64), x[:, :1]], dim=1)
        norms = {"0": 0.0, "1": 1.0, "2": 2.0, "3": 3.0, "half": 0.5, "largest": math.inf}
        return {
            **{
                f"norm {name}": Example(lambda a, b, p=p: torch.cdist(a, b, p), (x, y))
                for name, p in norms.items()
            },
            "one matrix": Example(torch.cdist, (x, y[0]), shared=(1,)),
            "forward": Example(
                lambda a, b: torch.ops.aten._cdist_forward(a, b, 2.0, None),  # noqa: SLF001
                (x, y),
            ),
            "one feature": Example(torch.cdist, (x[..., :1], y[..., :1])),
        }


lowering = CDist()
