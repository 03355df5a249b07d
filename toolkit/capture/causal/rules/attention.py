"""Attention over the past: products of queries with cached keys, of weights with cached values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx

from toolkit.capture.causal.lane import Known, Lane, Refusal
from toolkit.capture.causal.rules._scores import HIDDEN, hide_unfilled
from toolkit.capture.causal.rules.linear import by_weight, from_left
from toolkit.capture.causal.walk import Walk

aten = torch.ops.aten


def matmul(walk: Walk, node: fx.Node, a: Any, b: Any) -> Lane:
    """Multiply a lane by a weight, by cached keys, or by cached values."""
    if isinstance(a, Lane) and isinstance(b, Known):
        return by_weight(walk, node, a, b)
    if isinstance(a, Known) and isinstance(b, Lane):
        return from_left(walk, node, a, b)
    if a.keys is not None and a.keys == len(a.shape) - 1 and b.from_end == -2:
        if not a.masked:
            raise Refusal(node, "mixes values without a causal mask")
        values = walk.cache(_together(node, a, b))
        return walk.lane(
            node, a.axis, lambda: mixed(a.column().unsqueeze(-2), values()).squeeze(-2)
        )
    if a.from_end == -2 and b.from_end == -1:
        keys = walk.cache(_turned(_together(node, a, b)))
        return walk.lane(
            node,
            a.axis,
            lambda: against(a.column().unsqueeze(-1), keys()).squeeze(-1),
            keys=len(a.shape) - 1,
        )
    if a.from_end == b.from_end <= -3:
        return walk.apply(node, torch.matmul, (a, b), {})
    raise Refusal(node, "contracts over time")


def against(query: Tensor, keys: Sequence[Tensor]) -> Tensor:
    """Return the scores of a query with keys in parts, `(…, places, 1)`.

    Keys are `(…, places, features)`, the query `(…, features, 1)`: turned round, all keys would be
    copied at every step.
    """
    scores = [part @ query for part in keys]
    return torch.cat(scores, -2) if len(scores) > 1 else scores[0]


def mixed(weights: Tensor, values: Sequence[Tensor]) -> Tensor:
    """Return the weighted sum of values in parts."""
    if len(values) == 1:
        return weights @ values[0]
    sizes = [part.shape[-2] for part in values]
    pieces = torch.split(weights, sizes, -1)
    old, recent = (piece @ part for piece, part in zip(pieces, values, strict=True))
    return old + recent


def _turned(lane: Lane) -> Lane:
    """Return a lane, time its last axis, with time before the axis that was last but one."""
    *outer, features, places = lane.shape
    return replace(lane, axis=lane.axis - 1, shape=(*outer, places, features))


def _together(node: fx.Node, a: Lane, b: Lane) -> Lane:
    if (a.origin, b.origin) != (0, 0) or a.prefix is not None or b.prefix is not None:
        raise Refusal(node, "attention over shifted or padded sequences")
    return b


def attention(
    walk: Walk,
    node: fx.Node,
    q: Any,
    k: Any,
    v: Any,
    mask: Any = None,
    p: float = 0.0,
    is_causal: bool = False,  # noqa: FBT001, FBT002  (the operator's own argument)
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Lane:
    """Attend to what came before."""
    if not all(isinstance(lane, Lane) and lane.from_end == -2 for lane in (q, k, v)):
        raise Refusal(node, "queries, keys and values must run along time on axis -2")
    if p:
        raise Refusal(node, "dropout in attention")
    rows = None
    if mask is not None:
        rows = _mask_rows(walk, node, mask)
    elif not is_causal:
        raise Refusal(node, "attention without a causal mask")
    groups = q.shape[-3] // k.shape[-3] if enable_gqa else 1
    # As caches are carried: a view of one is an operator, too.
    flat = rows is None and groups == 1 and q.shape[:-2] == k.shape[:-2] == v.shape[:-2]
    keys, values = (walk.cache(_together(node, q, lane), flat=flat) for lane in (k, v))
    factor = q.shape[-1] ** -0.5 if scale is None else scale

    def column() -> Tensor:
        query = q.column() * factor
        query = query.reshape(-1, query.shape[-1]) if flat else query
        scores = against(query.unsqueeze(-1), [_repeat(part, groups) for part in keys()])
        scores = scores.squeeze(-1).unsqueeze(-2)
        if rows is not None:
            scores = _with_row(scores, walk.over_keys(rows()).unsqueeze(-2))
        weights = hide_unfilled(walk, scores).softmax(-1)
        found = mixed(weights, [_repeat(part, groups) for part in values()])
        return found.reshape(*q.shape[:-2], found.shape[-1])

    return walk.lane(node, q.axis, column)


def _with_row(scores: Tensor, row: Tensor) -> Tensor:
    return torch.where(row, scores, -torch.inf) if row.dtype == torch.bool else scores + row


def _repeat(heads: Tensor, groups: int) -> Tensor:
    return heads if groups == 1 else heads.repeat_interleave(groups, -3)


def _mask_rows(walk: Walk, node: fx.Node, mask: Any) -> Any:
    """Return what gives the mask's row of the current position; nothing if exactly causal."""
    full = walk.const(node, mask)

    def judge() -> tuple[bool, bool]:
        shown = full if full.dtype == torch.bool else full > HIDDEN
        causal = torch.ones(full.shape[-2:], dtype=torch.bool).tril()
        plain = full.dtype == torch.bool or bool((full.expand_as(shown)[shown] == 0).all())
        hides = not bool((shown & ~causal).any())
        return hides, plain and bool((shown == causal).all())

    hides, exact = walk.plan.once(node, "mask", judge)
    if not hides:
        raise Refusal(node, "the mask shows the future")
    if exact:
        return None
    return walk.entry_of(mask, full, full.ndim - 2, 0)


rules = {
    aten.matmul.default: matmul,
    aten.bmm.default: matmul,
    aten.scaled_dot_product_attention.default: attention,
}
