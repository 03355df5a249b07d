"""Sums and the like: over other axes on columns, running sums by an accumulator."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from toolkit.capture.causal.lane import Lane, Refusal, drop, lazy
from toolkit.capture.causal.program import dtype_of
from toolkit.capture.causal.walk import Walk

aten = torch.ops.aten


def reduce(walk: Walk, node: fx.Node, x: Lane, *args: Any, **kwargs: Any) -> Lane:
    """Reduce over other axes than time."""
    at = 1 if node.target is aten.linalg_vector_norm.default else 0
    dims = args[at] if len(args) > at else None
    keepdim = args[at + 1] if len(args) > at + 1 else kwargs.get("keepdim", False)
    if isinstance(dims, int):
        dims = [dims]
    dims = [dim % len(x.shape) for dim in dims or range(len(x.shape))]
    if x.axis in dims or x.keys in dims:
        raise Refusal(node, "reduces over time")
    target: Any = node.target

    def call(value: Tensor, over: list[int]) -> Any:
        return target(value, *args[:at], over, *args[at + 1 :], **kwargs)

    inner = [drop(dim, x.axis) for dim in dims]
    axis = x.axis if keepdim else x.axis - sum(dim < x.axis for dim in dims)
    return walk.reshaped(node, x, axis, lambda c: call(c, inner), lambda p: call(p, dims))


def cumsum(walk: Walk, node: fx.Node, x: Lane, dim: int, **_: Any) -> Lane:
    """Carry the running sum."""
    dim %= len(x.shape)
    if dim != x.axis:
        return walk.reshaped(
            node, x, x.axis, lambda c: c.cumsum(drop(dim, x.axis)), lambda p: p.cumsum(dim)
        )
    if x.start > 0:
        raise Refusal(node, "accumulates a sequence that starts late")
    shape = x.shape[: x.axis] + x.shape[x.axis + 1 :]
    initial = torch.zeros(shape, dtype=dtype_of(node))
    prefix = None
    if x.prefix is not None:
        initial, prefix = x.prefix.sum(x.axis), x.prefix.cumsum(x.axis)
    total = lazy(lambda: walk.state(node.name) + x.column())
    walk.carry(node.name, initial, total)
    return walk.lane(node, x.axis, total, origin=x.origin, prefix=prefix)


rules = {
    aten.sum.dim_IntList: reduce,
    aten.mean.dim: reduce,
    aten.amax.default: reduce,
    aten.amin.default: reduce,
    aten.logsumexp.default: reduce,
    aten.var.correction: reduce,
    aten.linalg_vector_norm.default: reduce,
    aten.cumsum.default: cumsum,
}
