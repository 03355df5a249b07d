"""Operators that act on every entry alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx
from torch.utils import _pytree as pytree

from toolkit.capture.causal.lane import Lane, Refusal
from toolkit.capture.causal.program import dtype_of
from toolkit.capture.causal.rules._scores import score_pointwise
from toolkit.capture.causal.walk import Walk

aten = torch.ops.aten

POINTWISE = """
abs acos add.Scalar add.Tensor asin atan bitwise_and.Tensor bitwise_not bitwise_or.Tensor ceil
celu clamp clamp.Tensor clamp_max clamp_min cos cosh div.Scalar div.Tensor div.Tensor_mode elu
eq.Scalar eq.Tensor erf exp expm1 floor floor_divide fmod.Scalar ge.Scalar ge.Tensor gelu
gt.Scalar gt.Tensor hardsigmoid hardswish hardtanh le.Scalar le.Tensor leaky_relu log log1p
log_sigmoid logical_and logical_not logical_or lt.Scalar lt.Tensor masked_fill.Scalar
masked_fill.Tensor maximum minimum mish mul.Scalar mul.Tensor ne.Scalar ne.Tensor neg pow.Scalar
pow.Tensor_Scalar pow.Tensor_Tensor reciprocal relu relu6 remainder.Scalar round rsqrt rsub.Scalar
selu sigmoid sign silu sin sinh softplus sqrt square sub.Scalar sub.Tensor tan tanh
true_divide.Tensor where.ScalarOther where.ScalarSelf where.self
"""


def overload(name: str) -> Any:
    """Return an ATen overload by `packet` or `packet.overload`."""
    packet, _, kind = name.partition(".")
    return getattr(getattr(aten, packet), kind or "default")


def pointwise(walk: Walk, node: fx.Node, *args: Any, **kwargs: Any) -> Lane:
    """Apply the operator to columns."""
    lanes = [leaf for leaf in pytree.tree_leaves(args) if isinstance(leaf, Lane)]
    scores = next((lane for lane in lanes if lane.keys is not None), None)
    if scores is not None:
        return score_pointwise(walk, node, scores, args, kwargs)
    return walk.apply(node, node.target, args, kwargs)  # type: ignore[arg-type]


def same(walk: object, node: fx.Node, x: Any, *_: Any, **__: Any) -> Any:
    """Pass the value on, whatever walks over the graph."""
    del walk, node
    return x


def dropout(walk: object, node: fx.Node, x: Any, p: float, train: bool) -> Any:  # noqa: FBT001
    """Pass the value on; refuse to drop."""
    del walk
    if train and p:
        raise Refusal(node, "dropout in training mode")
    return x


def cast(walk: Walk, node: fx.Node, x: Lane, *_: Any, **__: Any) -> Lane:
    """Change the element type."""
    dtype = dtype_of(node)
    if dtype == dtype_of(walk.by_name[x.key.split("@")[0]]):
        return x
    return walk.apply(node, lambda c: c.to(dtype), (x,), {}, keys=x.keys, masked=x.masked)


rules = {
    **{overload(name): pointwise for name in POINTWISE.split()},
    **{
        overload(name): same
        for name in ("alias", "clone", "contiguous", "detach", "lift_fresh_copy")
    },
    **{overload(name): dropout for name in ("dropout", "feature_dropout", "alpha_dropout")},
    **{
        overload(name): cast
        for name in ("_to_copy", "to.dtype", "to.dtype_layout", "to.device", "type_as")
    },
}
