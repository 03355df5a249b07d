"""Padding, cropping and shifting along time move a lane's origin and change no column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional

from toolkit.capture.causal.lane import Column, Lane, Last, Refusal, drop, lazy
from toolkit.capture.causal.program import dtype_of, shape_of
from toolkit.capture.causal.walk import Walk

aten = torch.ops.aten


def pad(
    walk: Walk,
    node: fx.Node,
    x: Lane,
    pads: Sequence[int],
    mode: str | float = "constant",
    value: float | None = None,
) -> Lane:
    """Pad: entries before the first are a known prefix; a negative width crops."""
    # `constant_pad_nd` gives the value where `pad` gives the mode.
    fill = (value or 0.0) if isinstance(mode, str) else mode
    mode = mode if isinstance(mode, str) else "constant"
    rank = len(x.shape)
    by_dim = {rank - 1 - i: (pads[2 * i], pads[2 * i + 1]) for i in range(len(pads) // 2)}
    left, right = by_dim.pop(x.axis, (0, 0))
    if mode != "constant" and (left or right):
        raise Refusal(node, f"padding mode {mode!r} reads other positions")
    others = [w for dim in reversed(range(rank)) if dim != x.axis for w in by_dim.get(dim, (0, 0))]
    column = x.column
    if any(others):
        column = lambda: functional.pad(x.column(), others, mode, fill)  # noqa: E731
        if x.prefix is not None:
            x = replace(x, prefix=functional.pad(x.prefix, [*_wide(others, x)], mode, fill))
    column = filled_outside(walk, x, column, left, right, fill)
    if left < 0 or right < 0:
        cropped = crop(
            walk, node, replace(x, column=column), max(0, -left), x.length + min(0, right)
        )
        if left <= 0:
            return cropped
        return with_prefix(walk, node, cropped, column, left, fill)
    return with_prefix(walk, node, x, column, left, fill)


def _wide(others: Sequence[int], x: Lane) -> list[int]:
    """Return widths of the column's axes as widths of the whole tensor's."""
    place = 2 * (-x.from_end - 1)
    return [*others[:place], 0, 0, *others[place:]]


def filled_outside(walk: Walk, x: Lane, column: Column, left: int, right: int, fill: Any) -> Column:
    """Return the column, with the fill where padding lies inside the visited times."""
    if left > 0 and x.start > 0:
        inner, start = column, x.start
        column = lambda: torch.where(walk.now() >= start, inner(), fill)  # noqa: E731
    stop = x.origin + x.length
    if right > 0 and stop < walk.length:
        before = column
        column = lambda: torch.where(walk.now() < stop, before(), fill)  # noqa: E731
    return column


def with_prefix(
    walk: Walk, node: fx.Node, x: Lane, column: Column, left: int, fill: float | Tensor
) -> Lane:
    """Return the lane with `left` more known entries before its first."""
    origin = x.origin - left
    shape = list(shape_of(node))
    shape[x.axis] = max(0, min(0, x.origin) - origin) if x.start > 0 else left
    if isinstance(fill, Tensor):
        early = fill.narrow(x.axis, 0, shape[x.axis])
    else:
        early = torch.full(shape, fill, dtype=dtype_of(node))
    prefix = early if x.prefix is None else torch.cat([early, x.prefix], x.axis)
    return walk.lane(
        node, x.axis, column, origin=origin, prefix=prefix if prefix.shape[x.axis] else None
    )


def crop(walk: Walk, node: fx.Node, x: Lane, start: int, stop: int) -> Lane:
    """Return entries `start` to `stop` of the lane."""
    del stop  # the node's own shape says how long the result is
    prefix = None
    if x.prefix is not None and x.prefixed > start:
        prefix = x.prefix.narrow(x.axis, start, x.prefixed - start)
    return walk.lane(node, x.axis, x.column, origin=x.origin + start, prefix=prefix)


def slice_(
    walk: Walk,
    node: fx.Node,
    x: Lane,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Lane | Last:
    """Crop along time, take the last position, or slice the column."""
    dim %= len(x.shape)
    if dim == x.axis:
        if step != 1:
            raise Refusal(node, "strided along time")
        first, stop, _ = slice(start, end).indices(x.length)
        if stop - first == 1 < x.length and x.keys is None and walk.is_last(x, first):
            return Last(lazy(lambda: x.column().unsqueeze(x.axis)))
        return x if (first, stop) == (0, x.length) else crop(walk, node, x, first, stop)
    if dim == x.keys:
        if (start or 0) == 0 and (end is None or end >= x.shape[dim]) and step == 1:
            return x
        raise Refusal(node, "slices the keys")

    def cut(value: Tensor, axis: int) -> Tensor:
        return aten.slice.Tensor(value, axis, start, end, step)  # type: ignore[no-any-return]

    return walk.reshaped(
        node,
        x,
        x.axis,
        lambda c: cut(c, drop(dim, x.axis)),
        lambda p: cut(p, dim),
        keys=x.keys,
        masked=x.masked,
    )


def index(walk: Walk, node: fx.Node, x: Lane, indices: Sequence[Any]) -> Last:
    """Take the last position by a list of one."""
    given = [walk.const(node, item) for item in indices]
    named = [dim for dim, item in enumerate(given) if item is not None]
    if named != [x.axis] or x.keys is not None or given[x.axis].shape != (1,):
        raise Refusal(node, "picks positions by a list")
    if not walk.plan.once(node, "last", lambda: walk.is_last(x, int(given[x.axis]))):
        raise Refusal(node, "picks one position of time")
    return Last(lazy(lambda: x.column().unsqueeze(x.axis)))


def narrow(walk: Walk, node: fx.Node, x: Lane, dim: int, start: int, length: int) -> Lane | Last:
    """Crop along time, or narrow the column."""
    return slice_(walk, node, x, dim, start, start + length)


def cat(walk: Walk, node: fx.Node, tensors: Sequence[Any], dim: int = 0) -> Lane:
    """Join on another axis, or put known entries before a sequence."""
    rank = len(shape_of(node))
    dim %= rank
    lanes = [tensor for tensor in tensors if isinstance(tensor, Lane)]
    axis = lanes[0].axis
    if dim != axis:
        inner = drop(dim, axis)
        return walk.apply(
            node,
            lambda *c: torch.cat(c, dim if c[0].ndim == rank else inner),
            tuple(tensors),
            {},
        )
    if len(lanes) > 1 or not isinstance(tensors[-1], Lane):
        raise Refusal(node, "joins sequences end to end")
    x = lanes[0]
    if x.start > 0:
        raise Refusal(node, "puts entries before a sequence that starts late")
    fill = torch.cat([walk.const(node, tensor) for tensor in tensors[:-1]], dim)
    return with_prefix(walk, node, x, x.column, fill.shape[dim], fill)


rules = {
    aten.pad.default: pad,
    aten.constant_pad_nd.default: pad,
    aten.slice.Tensor: slice_,
    aten.narrow.default: narrow,
    aten.index.Tensor: index,
    aten.cat.default: cat,
}
