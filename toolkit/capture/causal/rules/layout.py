"""Views, transpositions and splits: the axis of time moves, the columns are rearranged."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from toolkit.capture.causal.lane import (
    Ended,
    Lane,
    Last,
    Merged,
    Once,
    Parts,
    Refusal,
    drop,
    lazy,
)
from toolkit.capture.causal.program import shape_of
from toolkit.capture.causal.sums import Sum, terms_of
from toolkit.capture.causal.walk import Walk

aten = torch.ops.aten


def view(walk: Walk, node: fx.Node, x: Lane | Merged, *_: Any) -> Lane | Merged:
    """Reshape around the axis of time, or merge it with others, or part it from them."""
    new, merged = shape_of(node), isinstance(x, Merged)
    before = math.prod(x.shape[: x.axis]) * (x.outer if isinstance(x, Merged) else 1)
    after = math.prod(x.shape[x.axis + 1 :]) * (x.inner if isinstance(x, Merged) else 1)
    prefix = None if isinstance(x, Merged) else x.prefix
    axis = _axis_of_time(new, x.length, before)
    if axis is not None:
        left, right = new[:axis], new[axis + 1 :]
        return walk.lane(
            node,
            axis,
            lambda: x.column().reshape(*left, *right),
            origin=x.origin,
            prefix=None if prefix is None else prefix.reshape(*left, -1, *right),
        )
    axis = next((a for a in range(len(new)) if before < math.prod(new[: a + 1])), None)
    if axis is not None and prefix is None and (merged or x.origin == 0):
        outer, lost = divmod(before, math.prod(new[:axis]))
        inner, rest = divmod(after, math.prod(new[axis + 1 :]))
        if not lost and not rest and new[axis] == outer * x.length * inner:
            sizes = (*new[:axis], outer * inner, *new[axis + 1 :])
            column = lazy(lambda: x.column().reshape(sizes))
            return Merged(axis, new, x.length, outer, inner, column, x.origin)
    raise Refusal(node, f"the view {list(x.shape)} -> {list(new)} mixes time with other axes")


def _axis_of_time(shape: Sequence[int], length: int, before: int) -> int | None:
    """Return the axis of `length` entries that has `before` entries on its left."""
    return next(
        (
            axis
            for axis, size in enumerate(shape)
            if size == length and math.prod(shape[:axis]) == before
        ),
        None,
    )


def permute(walk: Walk, node: fx.Node, x: Lane, dims: Sequence[int]) -> Lane:
    """Permute the axes."""
    dims = [dim % len(dims) for dim in dims]
    inner = [drop(dim, x.axis) for dim in dims if dim != x.axis]
    rest: dict[str, Any] = {
        "keys": None if x.keys is None else dims.index(x.keys),
        "masked": x.masked,
    }
    if inner == sorted(inner):
        prefix = None if x.prefix is None else x.prefix.permute(dims)
        axis = dims.index(x.axis)
        return walk.lane(node, axis, x.column, origin=x.origin, prefix=prefix, **rest)
    return walk.reshaped(
        node, x, dims.index(x.axis), lambda c: c.permute(inner), lambda p: p.permute(dims), **rest
    )


def transpose(walk: Walk, node: fx.Node, x: Lane, first: int, second: int) -> Lane:
    """Exchange two axes."""
    dims = list(range(len(x.shape)))
    dims[first], dims[second] = dims[second], dims[first]
    return permute(walk, node, x, dims)


def rearrange(walk: Walk, node: fx.Node, x: Lane, *args: Any) -> Lane:
    """Permute the axes as the operator does with axes of unlike sizes."""
    target: Any = node.target
    sizes = range(2, 2 + len(x.shape))
    moved = target(torch.empty(*sizes, device="meta"), *args).shape
    return permute(walk, node, x, [size - 2 for size in moved])


def unsqueeze(walk: Walk, node: fx.Node, x: Lane, dim: int) -> Lane:
    """Add an axis of size 1."""
    dim %= len(x.shape) + 1
    axis = x.axis + (dim <= x.axis)
    keys = None if x.keys is None else x.keys + (dim <= x.keys)
    return walk.reshaped(
        node,
        x,
        axis,
        lambda c: c.unsqueeze(drop(dim, axis)),
        lambda p: p.unsqueeze(dim),
        keys=keys,
        masked=x.masked,
    )


def squeeze(walk: Walk, node: fx.Node, x: Lane, dim: int | Sequence[int]) -> Lane:
    """Remove axes of size 1."""
    dims = [dim] if isinstance(dim, int) else list(dim)
    gone = sorted({d % len(x.shape) for d in dims if x.shape[d] == 1})
    if x.axis in gone or x.keys in gone:
        raise Refusal(node, "removes the axis of time")
    inner = [drop(d, x.axis) for d in gone]
    keys = None if x.keys is None else x.keys - sum(d < x.keys for d in gone)
    return walk.reshaped(
        node,
        x,
        x.axis - sum(d < x.axis for d in gone),
        lambda c: c.squeeze(inner),
        lambda p: p.squeeze(gone),
        keys=keys,
        masked=x.masked,
    )


def select(walk: Walk, node: fx.Node, x: Lane, dim: int, index: int) -> Lane | Last:
    """Take one entry of another axis, or the last position."""
    dim %= len(x.shape)
    if dim == x.axis and x.keys is None and walk.is_last(x, index):
        return Last(x.column)
    if dim in (x.axis, x.keys):
        raise Refusal(node, "picks one position of time")
    keys = None if x.keys is None else drop(x.keys, dim)
    return walk.reshaped(
        node,
        x,
        drop(x.axis, dim),
        lambda c: c.select(drop(dim, x.axis), index),
        lambda p: p.select(dim, index),
        keys=keys,
        masked=x.masked,
    )


def expand(walk: Walk, node: fx.Node, x: Lane, *_: Any, **__: Any) -> Lane:
    """Broadcast."""
    new = shape_of(node)
    axis = len(new) + x.from_end
    left, right = new[:axis], new[axis + 1 :]
    return walk.reshaped(
        node,
        x,
        axis,
        lambda c: c.expand(*left, *right),
        lambda p: p.expand(*left, -1, *right),
        keys=None if x.keys is None else x.keys + len(new) - len(x.shape),
        masked=x.masked,
    )


def split(walk: Walk, node: fx.Node, x: Lane, *args: Any, dim: int | None = None) -> Parts:
    """Split on another axis; `getitem` picks the pieces."""
    removes = node.target is aten.unbind.int
    sized = () if removes else args[:1]
    given = args[len(sized)] if len(args) > len(sized) else (dim or 0)
    axis = given % len(x.shape)
    if axis in (x.axis, x.keys):
        raise Refusal(node, "splits time")
    target: Any = node.target
    early = () if x.prefix is None else target(x.prefix, *sized, axis)

    def bounds() -> list[tuple[int, int]]:
        places = target(torch.arange(x.shape[axis]).unsqueeze(-1), *sized, 0)
        return [(int(piece.flatten()[0]), piece.numel()) for piece in places]

    return Parts(
        x.key,
        x.axis,
        x.shape,
        x.column,
        x.origin,
        x.prefix,
        dim=axis,
        pieces=lazy(lambda: target(x.column(), *sized, drop(axis, x.axis))),
        early=early,
        removes=removes,
        bounds=walk.plan.once(node, "bounds", bounds),
    )


def getitem(walk: Walk, node: fx.Node, x: Lane, index: int) -> Lane | Last:
    """Pick a piece of a split, or the first result of a layer with several."""
    if isinstance(x, Parts):
        prefix: Tensor | None = x.early[index] if len(x.early) else None
        column = Once(lambda: x.pieces()[index], _piece(x, index))
        axis = drop(x.axis, x.dim) if x.removes else x.axis
        return walk.lane(node, axis, column, origin=x.origin, prefix=prefix)
    if index and isinstance(x, Ended):
        return Last(x.ends[index - 1])
    if index:
        raise Refusal(node, "only the first result runs along time")
    return walk.lane(node, x.axis, x.column, origin=x.origin, prefix=x.prefix)


def _piece(x: Parts, index: int) -> Sum | None:
    """Return a piece of a split product as a product of its own, for those who add it up."""
    terms = terms_of(x.column)
    channels = len(x.shape) - (2 if x.from_end == -1 else 1)
    if terms is None or terms.addends or not terms.open or x.dim != channels or x.removes:
        return None
    return terms.narrow(*x.bounds[index])


VIEWS = (
    aten.view.default,
    aten.reshape.default,
    aten._unsafe_view.default,  # noqa: SLF001  (an operator's name)
    aten.flatten.using_ints,
    aten.unflatten.int,
)

rules: dict[Any, Callable[..., Lane | Merged | Last]] = {
    **dict.fromkeys(VIEWS, view),
    **{(Merged, target): view for target in VIEWS},
    aten.permute.default: permute,
    aten.transpose.int: transpose,
    **dict.fromkeys(
        (
            aten.movedim.int,
            aten.movedim.intlist,
            aten.moveaxis.int,
            aten.swapaxes.default,
            aten.swapdims.default,
            aten.t.default,
            aten.numpy_T.default,
            aten.mT.default,
        ),
        rearrange,
    ),
    aten.unsqueeze.default: unsqueeze,
    aten.squeeze.dim: squeeze,
    aten.squeeze.dims: squeeze,
    aten.select.int: select,
    aten.expand.default: expand,
    aten.split.Tensor: split,
    aten.split_with_sizes.default: split,
    aten.chunk.default: split,
    aten.unbind.int: split,
    operator.getitem: getitem,
}
