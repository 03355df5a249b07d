"""Normalisations: those over channels act on columns, those over time are refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx

from toolkit.capture.causal.lane import Lane, Refusal, drop, lazy
from toolkit.capture.causal.rules._scores import hide_unfilled
from toolkit.capture.causal.walk import Walk

aten = torch.ops.aten


def over_last(walk: Walk, node: fx.Node, x: Lane, shape: Sequence[int], *rest: Any) -> Lane:
    """Normalise over the last axes."""
    if -x.from_end <= len(shape):
        raise Refusal(node, "normalises over time")
    given = [walk.const(node, item) for item in rest]
    target: Any = node.target

    def op(value: Tensor) -> Tensor:
        return target(value, shape, *given)  # type: ignore[no-any-return]

    return walk.reshaped(node, x, x.axis, op, op)


def batch_norm(
    walk: Walk, node: fx.Node, x: Lane, weight: Any, bias: Any, mean: Any, var: Any, *rest: Any
) -> Lane:
    """Scale and shift channels by the statistics of training."""
    whole = node.target is aten.batch_norm.default
    if whole and rest[0]:
        raise Refusal(node, "batch norm in training mode")
    eps = rest[2] if whole else rest[1]

    def folded() -> tuple[Tensor, Tensor]:
        scale = torch.rsqrt(walk.const(node, var) + eps)
        gain = scale if weight is None else scale * walk.const(node, weight)
        shift = -walk.const(node, mean) * gain
        return gain, shift if bias is None else shift + walk.const(node, bias)

    found: tuple[Tensor, Tensor] = walk.plan.once(node, "gain and shift", folded)
    gain, shift = found

    def op(value: Tensor) -> Tensor:
        sizes = (-1, *[1] * (value.ndim - 2))
        return value * gain.view(sizes) + shift.view(sizes)

    prefix = None if x.prefix is None else op(x.prefix)
    column = lazy(lambda: op(x.column()))
    return replace(x, key=node.name, column=column, prefix=prefix)


def over_time(walk: Walk, node: fx.Node, *_: Any, **__: Any) -> Lane:
    """Refuse statistics of the whole sequence."""
    del walk
    raise Refusal(node, "normalises over time: every position depends on every other")


def softmax(walk: Walk, node: fx.Node, x: Lane, dim: int, *rest: Any) -> Lane:
    """Normalise over another axis; over the keys of attention, once no future is shown."""
    dim %= len(x.shape)
    if dim == x.axis:
        raise Refusal(node, "softmax over time")
    if dim == x.keys and not x.masked:
        raise Refusal(node, "attention without a causal mask")
    target: Any = node.target

    def on_column(value: Tensor) -> Tensor:
        if dim == x.keys:
            value = hide_unfilled(walk, value)
        return target(value, drop(dim, x.axis), *rest)  # type: ignore[no-any-return]

    return walk.reshaped(
        node,
        x,
        x.axis,
        on_column,
        lambda p: target(p, dim, *rest),
        keys=x.keys,
        masked=x.masked,
    )


rules = {
    aten.layer_norm.default: over_last,
    aten.rms_norm.default: over_last,
    aten.batch_norm.default: batch_norm,
    aten._native_batch_norm_legit_no_training.default: batch_norm,  # noqa: SLF001
    aten.instance_norm.default: over_time,
    aten.group_norm.default: over_time,
    aten.softmax.int: softmax,
    aten.log_softmax.int: softmax,
    aten._softmax.default: softmax,  # noqa: SLF001  (an operator's name)
    aten._log_softmax.default: softmax,  # noqa: SLF001
}
