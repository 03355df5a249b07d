"""Sums of exponentials under the logarithm: two, in base two, and cumulated along an axis.

torch's translations overflow from exp(88) on. These take the larger term out; equal terms have no
difference, so that infinite ones do not turn into NaN.

References:
    Data Parallel Algorithms, Hillis and Steele, Communications of the ACM 29 (1986), 1170-1183
    (no arXiv number), for the cumulated one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from onnxscript import opset18 as op

from toolkit.core.errors import ExportError
from toolkit.core.protocols import Example
from toolkit.lowerings._maths import Number, log_one_plus, numbers_like


def logaddexp(self: Any, other: Any) -> Any:
    """Translate `logaddexp(Tensor self, Tensor other) -> Tensor`."""
    return _larger_plus_rest(self, other, numbers_like(self), scale=1.0)


def logaddexp2(self: Any, other: Any) -> Any:
    """Translate `logaddexp2(Tensor self, Tensor other) -> Tensor`."""
    return _larger_plus_rest(self, other, numbers_like(self), scale=math.log(2))


def logcumsumexp(self: Any, dim: int) -> Any:
    """Translate `logcumsumexp(Tensor self, int dim) -> Tensor`, pairwise, in `log2` of its length.

    Raises:
        ExportError: The axis is dynamic.
    """
    rank = len(self.shape)
    if rank == 0:
        return op.Identity(self)
    axis = dim % rank
    length = self.shape[axis]
    if not isinstance(length, int):
        raise ExportError(
            "logcumsumexp runs along a dynamic axis",
            where=f"axis {axis}, length {length}",
            next_step="fix that axis: give its size instead of a name in the input's dims",
        )
    number = numbers_like(self)
    total, step = op.Identity(self), 1
    while step < length:
        head = op.Slice(total, [0], [step], [axis])
        before = op.Slice(total, [0], [length - step], [axis])
        own = op.Slice(total, [step], [length], [axis])
        total = op.Concat(head, _larger_plus_rest(before, own, number, scale=1.0), axis=axis)
        step *= 2
    return total


def _larger_plus_rest(one: Any, other: Any, number: Number, *, scale: float) -> Any:
    larger = op.Max(one, other)
    gap = op.Where(op.Equal(one, other), number(0), op.Sub(op.Min(one, other), larger))
    rest = log_one_plus(op.Exp(gap if scale == 1 else op.Mul(gap, number(scale))), number)
    return op.Add(larger, rest if scale == 1 else op.Div(rest, number(scale)))


class LogAddExp:
    """Sums of exponentials that cannot overflow."""

    def __call__(self) -> Mapping[torch._ops.OpOverload, Callable[..., Any]]:
        """Return the table."""
        return {
            torch.ops.aten.logaddexp.default: logaddexp,
            torch.ops.aten.logaddexp2.default: logaddexp2,
            torch.ops.aten.logcumsumexp.default: logcumsumexp,
        }

    def examples(self) -> Mapping[str, Example]:
        """Return near and far terms, ties, infinities and NaN, axes and lengths."""
        draws = torch.Generator().manual_seed(0)
        x = torch.randn(5, 9, 4, generator=draws, dtype=torch.float64)
        ends = [0.0, -0.0, 500.0, -500.0, math.inf, -math.inf, math.nan]
        pairs = torch.cartesian_prod(*2 * [torch.tensor(ends, dtype=torch.float64)])
        rise = torch.linspace(-500, 500, 33, dtype=torch.float64).expand(3, 33)
        holes = torch.where(x < 0, -math.inf, x)
        holes[1, 3], holes[2, 4] = math.inf, math.nan
        both = (pairs[:, 0], pairs[:, 1])
        return {
            "near": Example(torch.logaddexp, (x, x.flip(1))),
            "far": Example(torch.logaddexp, (200 * x, 200 * x.flip(1))),
            "tail": Example(lambda a: torch.logaddexp(a, 0 * a).log(), (-9 - 9 * x.abs(),)),
            "edges": Example(torch.logaddexp, both),
            "broadcast": Example(torch.logaddexp, (x, x[0, 0]), shared=(1,)),
            "base 2": Example(torch.logaddexp2, (3 * x, 3 * x.flip(1))),
            "base 2, edges": Example(torch.logaddexp2, both),
            "cumulated": Example(lambda v: torch.logcumsumexp(v, 1), (x,)),
            "cumulated, rising": Example(lambda v: torch.logcumsumexp(v, -1), (rise,)),
            "cumulated, falling": Example(lambda v: torch.logcumsumexp(v, -1), (-rise,)),
            "cumulated, holes": Example(lambda v: torch.logcumsumexp(v, 1), (holes,)),
            "cumulated, length 1": Example(lambda v: torch.logcumsumexp(v, 1), (x[:, :1],)),
        }


lowering = LogAddExp()
