"""Operators that leave alone an axis that merges time with others (`batch * time`)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from toolkit.capture.causal.lane import Merged, Refusal, lazy
from toolkit.capture.causal.program import shape_of
from toolkit.capture.causal.rules.pointwise import POINTWISE, overload
from toolkit.capture.causal.walk import Walk

aten = torch.ops.aten


def follow(walk: Walk, node: fx.Node, *args: Any, **kwargs: Any) -> Merged:
    """Apply the operator to columns, whose merged axis is a batch to it."""
    lanes = [leaf for leaf in pytree.tree_leaves(args) if isinstance(leaf, Merged)]
    first, ends = lanes[0], {lane.axis - len(lane.shape) for lane in lanes}
    forms = {(lane.length, lane.outer, lane.inner, lane.origin) for lane in lanes}
    if len(ends) > 1 or len(forms) > 1:
        raise Refusal(node, "operands merge time with others in unlike ways")
    (end,) = ends

    def given(value: Any) -> Any:
        if isinstance(value, Merged):
            return value
        full = walk.const(node, value)
        if isinstance(full, Tensor) and node.target in ENTRYWISE and _long(full, end):
            raise Refusal(node, "a known value along an axis that merges time with others")
        return full

    values = pytree.tree_map(given, args)
    target: Any = node.target

    def column() -> Tensor:
        now = pytree.tree_map(lambda v: v.column() if isinstance(v, Merged) else v, values)
        return target(*now, **kwargs)  # type: ignore[no-any-return]

    shape = shape_of(node)
    return Merged(
        len(shape) + end, shape, first.length, first.outer, first.inner, lazy(column), first.origin
    )


def _long(value: Tensor, end: int) -> bool:
    return value.ndim >= -end and value.shape[end] > 1


def linear(walk: Walk, node: fx.Node, x: Any, weight: Any, bias: Any = None) -> Merged:
    """Apply a linear layer over the last axis."""
    if not isinstance(x, Merged) or x.axis == len(x.shape) - 1:
        raise Refusal(node, "a linear layer over time")
    return follow(walk, node, x, weight, bias)


def over_last(walk: Walk, node: fx.Node, x: Merged, shape: Any, *rest: Any) -> Merged:
    """Normalise over the last axes."""
    if len(x.shape) - x.axis <= len(shape):
        raise Refusal(node, "normalises over time")
    return follow(walk, node, x, shape, *rest)


ENTRYWISE = {overload(name) for name in POINTWISE.split()}
SAME = ("clone", "contiguous", "dropout", "detach", "alias")

rules = {
    **{(Merged, target): follow for target in ENTRYWISE},
    **{(Merged, overload(name)): follow for name in SAME},
    (Merged, aten.linear.default): linear,
    (Merged, aten.layer_norm.default): over_last,
    (Merged, aten.rms_norm.default): over_last,
}
