"""The quantile of the normal distribution."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from onnxscript import opset18 as op

from toolkit.core.protocols import Example
from toolkit.lowerings._maths import numbers_like, widened
from toolkit.lowerings._normal_quantile import CENTRE_HALF_WIDTH, centre, tail


@widened
def special_ndtri(self: Any) -> Any:
    """Translate `special_ndtri(Tensor self) -> Tensor`: ∓inf at 0 and 1, NaN beyond."""
    number = numbers_like(self)
    zero, half, one = number(0), number(0.5), number(1)
    distance = op.Sub(self, half)
    share = op.Min(self, op.Sub(one, self))
    # Outside the domain any finite value will do: it is not selected.
    inside = op.Greater(share, zero)
    outer = op.Mul(op.Sign(distance), tail(op.Where(inside, share, half), number, far=True))
    middle = op.LessOrEqual(op.Abs(distance), number(CENTRE_HALF_WIDTH))
    value = op.Where(middle, centre(distance, number), outer)
    # Zero over zero is the NaN beyond the domain; at its ends the sign of infinity.
    ends = op.Div(distance, op.Abs(op.Sqrt(share)))
    return op.Where(inside, value, ends)


class NdTri:
    """The inverse of the normal distribution function."""

    def __call__(self) -> Mapping[torch._ops.OpOverload, Callable[..., Any]]:
        """Return the table; in a decomposed program the operator is `prims.ndtri`."""
        prim = torch.ops.prims.ndtri.default
        return {torch.ops.aten.special_ndtri.default: special_ndtri, prim: special_ndtri}

    def examples(self) -> Mapping[str, Example]:
        """Return the whole domain, both tails and the edges."""
        grid = torch.linspace(0, 1, 803, dtype=torch.float64)[1:-1]
        small = torch.logspace(-37, -1, 100, dtype=torch.float64)
        ends = [0.0, -0.0, 1.0, 0.5, 0.075, 0.925, -0.5, 1.5, math.inf, -math.inf, math.nan]
        prim = torch.ops.prims.ndtri.default
        return {
            "domain": Example(torch.special.ndtri, (grid,)),
            "lower tail": Example(torch.special.ndtri, (small,)),
            "upper tail": Example(torch.special.ndtri, (1 - small[small > 1e-5],)),
            "edges": Example(torch.special.ndtri, (torch.tensor(ends, dtype=torch.float64),)),
            "decomposed": Example(prim, (grid,)),
        }


lowering = NdTri()
