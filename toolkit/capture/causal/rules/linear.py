"""Products with weights, and lookups: the same operator on columns."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional

from toolkit.capture.causal.lane import Column, Known, Lane, Once, Refusal
from toolkit.capture.causal.sums import added, owed, summed
from toolkit.capture.causal.walk import Walk

aten = torch.ops.aten


def linear(walk: Walk, node: fx.Node, x: Any, weight: Any, bias: Any = None) -> Lane:
    """Apply a linear layer to columns."""
    if not isinstance(x, Lane):
        raise Refusal(node, "the weight runs along time")
    if x.from_end == -1:
        raise Refusal(node, "a linear layer over time")
    w, b = walk.const(node, weight), walk.const(node, bias)

    prefix = None if x.prefix is None else functional.linear(x.prefix, w, b)
    return walk.lane(node, x.axis, times(x.column, w.T, b), origin=x.origin, prefix=prefix)


def times(column: Column, matrix: Tensor, bias: Tensor | None) -> Column:
    """Return a column times a matrix, plus a bias.

    What is owed to the column goes into the bias; of a row of a table the whole product is a row
    of another table, if that is not larger than what it stands for.

    Arguments:
        column: `(..., in)`.
        matrix: `(in, out)`.
        bias: `(out,)`.
    """
    if folded := looked_up(column, matrix, bias):
        index, table = folded
        return Once(lambda: functional.embedding(index(), table), lookup=folded)
    value, left = owed(column)
    if left is not None:
        bias = added([left @ matrix] if bias is None else [bias, left @ matrix])
    return summed([], [(value, matrix)], bias)


def looked_up(column: Column, matrix: Tensor, bias: Tensor | None) -> tuple[Column, Tensor] | None:
    """Return row numbers and table of a row of a table times a matrix; nothing if too large."""
    if not isinstance(column, Once) or column.lookup is None:
        return None
    index, rows = column.lookup
    if len(rows) * matrix.shape[1] > rows.numel() + matrix.numel():
        return None
    return index, rows @ matrix if bias is None else rows @ matrix + bias


def embedding(walk: Walk, node: fx.Node, weight: Any, index: Any, *_: Any) -> Lane:
    """Look up a table."""
    if not isinstance(index, Lane):
        raise Refusal(node, "the embedding table runs along time")
    rows = walk.const(node, weight)

    def op(value: Tensor) -> Tensor:
        return functional.embedding(value, rows)

    column = Once(lambda: op(index.column()), lookup=(index.column, rows))
    prefix = None if index.prefix is None else op(index.prefix)
    return walk.lane(node, index.axis, column, origin=index.origin, prefix=prefix)


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
