"""Products with weights, and lookups: the same operator on columns."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional

from toolkit.capture.causal.lane import Known, Lane, Refusal
from toolkit.capture.causal.walk import Walk

aten = torch.ops.aten


def linear(walk: Walk, node: fx.Node, x: Any, weight: Any, bias: Any = None) -> Lane:
    """Apply a linear layer to columns."""
    if not isinstance(x, Lane):
        raise Refusal(node, "the weight runs along time")
    if x.from_end == -1:
        raise Refusal(node, "a linear layer over time")
    w, b = walk.const(node, weight), walk.const(node, bias)

    def op(value: Tensor) -> Tensor:
        return functional.linear(value, w, b)

    return walk.reshaped(node, x, x.axis, op, op)


def embedding(walk: Walk, node: fx.Node, weight: Any, index: Any, *_: Any) -> Lane:
    """Look up a table."""
    if not isinstance(index, Lane):
        raise Refusal(node, "the embedding table runs along time")
    rows = walk.const(node, weight)

    def op(value: Tensor) -> Tensor:
        return functional.embedding(value, rows)

    return walk.reshaped(node, index, index.axis, op, op)


def one_hot(walk: Walk, node: fx.Node, x: Lane, classes: int = -1) -> Lane:
    """Spell out categories."""
    if classes < 0:
        raise Refusal(node, "one_hot without a number of classes depends on the data")

    def op(value: Tensor) -> Tensor:
        return (value.unsqueeze(-1) == torch.arange(classes)).to(torch.int64)

    return walk.reshaped(node, x, x.axis, op, op)


def by_weight(walk: Walk, node: fx.Node, x: Lane, weight: Known) -> Lane:
    """Multiply by a constant matrix from the right."""
    w = walk.const(node, weight)
    if x.from_end == -1 or x.keys is not None:
        raise Refusal(node, "contracts over time")
    if w.ndim <= 2:
        return walk.reshaped(node, x, x.axis, lambda c: c @ w, lambda p: p @ w)
    if x.from_end != -2:
        raise Refusal(node, "a batch of matrices over a sequence on another axis")
    return walk.reshaped(
        node, x, x.axis, lambda c: (c.unsqueeze(-2) @ w).squeeze(-2), lambda p: p @ w
    )


def from_left(walk: Walk, node: fx.Node, weight: Known, x: Lane) -> Lane:
    """Multiply by a constant matrix from the left, time being the columns."""
    w = walk.const(node, weight)
    if x.from_end != -1 or w.ndim != 2:
        raise Refusal(node, "contracts over time")
    return walk.reshaped(
        node,
        x,
        len(x.shape) - 1,
        lambda c: functional.linear(c, w),
        lambda p: w @ p,
    )


rules = {
    aten.linear.default: linear,
    aten.embedding.default: embedding,
    aten.one_hot.default: one_hot,
}
