"""Scales, biases and masks on attention scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from toolkit.capture.causal.lane import Known, Lane, Refusal
from toolkit.capture.causal.walk import Walk

HIDDEN = -1e4


def score_pointwise(
    walk: Walk, node: fx.Node, scores: Lane, args: Sequence[Any], kwargs: dict[str, Any]
) -> Lane:
    """Scale, shift or mask scores; a mask that hides the future and no more is left out.

    A cache holds no future, so such a mask has nothing to do. Any other mask or bias gives its row
    of the current position.
    """
    leaves = [leaf for leaf in pytree.tree_leaves(args) if isinstance(leaf, Known)]
    if any(isinstance(leaf, Lane) and leaf is not scores for leaf in pytree.tree_leaves(args)):
        raise Refusal(node, "scores meet another sequence")
    over_keys = [leaf for leaf in leaves if _has_keys(leaf, scores)]
    keep = {"keys": scores.keys, "masked": scores.masked}
    if not over_keys:
        return walk.apply(node, node.target, args, kwargs, **keep)  # type: ignore[arg-type]
    hides, alters = walk.plan.once(
        node, "mask", lambda: _judge(walk, node, scores, args, dict(kwargs))
    )
    if hides and not alters:
        return replace(scores, masked=True)
    keep["masked"] = scores.masked or hides
    target: Any = node.target
    rows = {place for place, item in enumerate(args) if item in over_keys}

    def op(*given: Any, **named: Any) -> Tensor:
        return target(  # type: ignore[no-any-return]
            *(walk.over_keys(v) if place in rows else v for place, v in enumerate(given)), **named
        )

    return walk.apply(node, op, args, kwargs, **keep)


def _has_keys(value: Known, scores: Lane) -> bool:
    full = value.const
    return isinstance(full, Tensor) and full.ndim >= 1 and full.shape[-1] == scores.shape[-1] > 1


def _judge(
    walk: Walk, node: fx.Node, scores: Lane, args: Sequence[Any], kwargs: dict[str, Any]
) -> tuple[bool, bool]:
    """Try the operator on scores of one: does it hide the future, and does it alter the rest?"""
    probe = torch.ones(scores.shape[-2:], dtype=torch.float64)

    def stand_in(value: Any) -> Any:
        if value is scores:
            return probe
        return walk.const(node, value)

    result = node.target(*pytree.tree_map(stand_in, tuple(args)), **kwargs)  # type: ignore[operator]
    result = result + torch.zeros_like(probe)
    future = torch.ones_like(probe).triu(1).bool()
    hides = bool((result[..., future] <= HIDDEN).all())
    return hides, not bool((result[..., ~future] == 1).all())


def hide_unfilled(walk: Walk, scores: Tensor) -> Tensor:
    """Hide the places of the cache that are not filled yet; keys are the last axis."""
    # One vector for all layers, and a sum is cheaper than a choice.
    return scores + walk.hidden()
