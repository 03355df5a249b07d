"""How one pixel of a field follows from pixels of the fields that an operator reads."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional
from torch.utils import _pytree as pytree

from toolkit.capture.causal.lane import Known, Refusal, drop
from toolkit.capture.causal.program import dtype_of, shape_of
from toolkit.capture.causal.rules.convolution import pads_of
from toolkit.capture.causal.rules.layout import VIEWS
from toolkit.capture.causal.rules.pointwise import POINTWISE, dropout, overload, same
from toolkit.capture.causal.wave.field import Field, Now, Parts, Plane, Stream, moved
from toolkit.capture.causal.wave.geometry import Tap

aten = torch.ops.aten


def conv(
    plane: Plane,
    node: fx.Node,
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Sequence[int] = (1,),
    padding: Sequence[int] | str = (0,),
    dilation: Sequence[int] = (1,),
    *rest: Any,
) -> Field:
    """Convolve over pixels: one product for earlier pixels, one for the current one."""
    if not isinstance(x, Field):
        raise Refusal(node, "the kernel runs over pixels")
    w, b = plane.const(node, weight), plane.const(node, bias)
    transposed, groups = len(rest) == 3 and rest[0], rest[-1] if rest else 1
    if w.ndim != 4 or x.axes != (2, 3) or set(stride) != {1} or transposed or groups != 1:
        raise Refusal(node, "strided, transposed, grouped, or not over the two axes of pixels")
    steps = list(dilation) * (2 // len(dilation))
    (top, _), (left, _) = pads_of(padding, steps, w.shape[2:])
    live = w.abs().sum((0, 1)).nonzero().tolist() or [[0, 0]]
    weights: dict[Tap, Tensor] = {}
    for row, column in live:
        dy, dx = row * steps[0] - top, column * steps[1] - left
        weights[x.offset[0] + dy, x.offset[1] + dx] = w[:, :, row, column].T.contiguous()
    source, made = x.stream, list[Stream]()

    def added(total: Tensor | None, columns: Tensor, matrix: Tensor) -> Tensor:
        return columns @ matrix if total is None else torch.addmm(total, columns, matrix)

    def compute(now: Now) -> Tensor:
        columns, taps = now.past(made[0])
        total: Tensor | None = None if b is None else b.unsqueeze(0)
        if columns is not None:
            total = added(total, columns, torch.cat([weights[tap] for tap in taps]))
        if (here := now.here(made[0], source, tuple(weights))) is not None:
            total = added(total, here[1], weights[here[0]])
        if total is None:
            raise Refusal(node, "reads no pixel at all")
        return total

    result = plane.stream(node, (2, 3), [(source, tuple(weights))], compute)
    made.append(result.stream)
    result.stream.weights = w.shape[0] * w.shape[1]
    return result


def pad(
    plane: Plane,
    node: fx.Node,
    x: Field,
    pads: Sequence[int],
    mode: str | float = "constant",
    value: float | None = None,
) -> Field:
    """Pad with zeros around the picture, or crop; nothing is computed."""
    fill = (value or 0.0) if isinstance(mode, str) else mode
    rank = len(x.shape)
    widths = {rank - 1 - i: (pads[2 * i], pads[2 * i + 1]) for i in range(len(pads) // 2)}
    (top, _), (left, _) = (widths.pop(axis, (0, 0)) for axis in x.axes)
    if any(before or after for before, after in widths.values()):
        raise Refusal(node, "pads another axis than those of pixels")
    if fill or (isinstance(mode, str) and mode != "constant"):
        raise Refusal(node, "pads with something else than zeros")
    del plane
    return moved(x, shape_of(node), (-top, -left))


def slice_(
    plane: Plane,
    node: fx.Node,
    x: Field,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Field:
    """Crop pixels, where nothing is computed, or take channels."""
    dim %= len(x.shape)
    first, _, stride = slice(start, end, step).indices(x.shape[dim])
    if dim in x.axes:
        if stride != 1:
            raise Refusal(node, "leaves pixels out")
        tap = (first, 0) if dim == x.axes[0] else (0, first)
        return moved(x, shape_of(node), tap)
    target: Any = node.target
    inner = _inner(x, dim)
    return plane.local(node, x.axes, x, lambda c: target(c, inner, start, end, step))


def narrow(plane: Plane, node: fx.Node, x: Field, dim: int, start: int, length: int) -> Field:
    """Crop pixels, or take channels."""
    dim %= len(x.shape)
    if dim in x.axes:
        return moved(x, shape_of(node), (start, 0) if dim == x.axes[0] else (0, start))
    inner = _inner(x, dim)
    return plane.local(node, x.axes, x, lambda c: c.narrow(inner, start, length))


def pointwise(plane: Plane, node: fx.Node, *args: Any, **kwargs: Any) -> Field:
    """Apply the operator to columns."""
    if any(isinstance(leaf, Field) for leaf in pytree.tree_leaves(kwargs)):
        raise Refusal(node, "a tensor given by keyword")
    target: Any = node.target
    return plane.apply(node, partial(target, **kwargs), args)


def cast(plane: Plane, node: fx.Node, x: Field, *_: Any, **__: Any) -> Field:
    """Change the element type."""
    kind = dtype_of(node)
    if kind == dtype_of(x.stream.node):
        return x
    return plane.local(node, x.axes, x, lambda c: c.to(kind))


def batch_norm(
    plane: Plane, node: fx.Node, x: Field, weight: Any, bias: Any, mean: Any, var: Any, *rest: Any
) -> Field:
    """Scale and shift channels by the statistics of training."""
    whole = node.target is aten.batch_norm.default
    if whole and rest[0]:
        raise Refusal(node, "batch norm in training mode")
    gain = torch.rsqrt(plane.const(node, var) + (rest[2] if whole else rest[1]))
    gain = gain if weight is None else gain * plane.const(node, weight)
    shift = -plane.const(node, mean) * gain
    shift = shift if bias is None else shift + plane.const(node, bias)
    return plane.local(node, x.axes, x, lambda c: c * gain + shift)


def over_last(plane: Plane, node: fx.Node, x: Field, shape: Sequence[int], *rest: Any) -> Field:
    """Normalise over the last axes."""
    if -min(x.from_end) <= len(shape) or -max(x.from_end) <= len(shape):
        raise Refusal(node, "normalises over pixels")
    given = [plane.const(node, item) for item in rest]
    target: Any = node.target
    return plane.local(node, x.axes, x, lambda c: target(c, shape, *given))


def softmax(plane: Plane, node: fx.Node, x: Field, dim: int, *rest: Any) -> Field:
    """Normalise over another axis."""
    inner, target = _other(node, x, dim), node.target
    return plane.local(node, x.axes, x, lambda c: target(c, inner, *rest))  # type: ignore[operator]


def reduce(plane: Plane, node: fx.Node, x: Field, *args: Any, **kwargs: Any) -> Field:
    """Reduce over other axes than those of pixels."""
    dims = args[0] if args else None
    keep = args[1] if len(args) > 1 else kwargs.get("keepdim", False)
    over = [dims] if isinstance(dims, int) else list(dims or range(len(x.shape)))
    inner = [_other(node, x, dim) for dim in over]
    gone = [] if keep else [dim % len(x.shape) for dim in over]
    down, across = (axis - sum(dim < axis for dim in gone) for axis in x.axes)
    target: Any = node.target
    return plane.local(node, (down, across), x, lambda c: target(c, inner, *args[1:], **kwargs))


def linear(plane: Plane, node: fx.Node, x: Any, weight: Any, bias: Any = None) -> Field:
    """Apply a linear layer to columns."""
    if not isinstance(x, Field) or -1 in x.from_end:
        raise Refusal(node, "a linear layer over pixels")
    w, b = plane.const(node, weight), plane.const(node, bias)
    result = plane.local(node, x.axes, x, lambda c: functional.linear(c, w, b))
    result.stream.weights = w.numel()
    return result


def by_weight(plane: Plane, node: fx.Node, x: Any, weight: Any) -> Field:
    """Multiply by a constant matrix from the right."""
    if not isinstance(x, Field) or not isinstance(weight, Known) or -1 in x.from_end:
        raise Refusal(node, "a product of pixels")
    w = plane.const(node, weight)
    if w.ndim != 2:
        raise Refusal(node, "a product with several matrices")
    return plane.local(node, x.axes, x, lambda c: c @ w)


def embedding(plane: Plane, node: fx.Node, weight: Any, index: Any, *_: Any) -> Field:
    """Look up a table."""
    if not isinstance(index, Field):
        raise Refusal(node, "the embedding table runs over pixels")
    rows = plane.const(node, weight)
    return plane.local(node, index.axes, index, lambda c: functional.embedding(c, rows))


def permute(plane: Plane, node: fx.Node, x: Field, dims: Sequence[int]) -> Field:
    """Permute the axes."""
    dims = [dim % len(dims) for dim in dims]
    inner = [_inner(x, dim) for dim in dims if dim not in x.axes]
    axes = (dims.index(x.axes[0]), dims.index(x.axes[1]))
    if inner == sorted(inner):
        return plane.local(node, axes, x, lambda c: c)
    return plane.local(node, axes, x, lambda c: c.permute(inner))


def rearrange(plane: Plane, node: fx.Node, x: Field, *args: Any) -> Field:
    """Permute the axes as the operator does with axes of unlike sizes."""
    target: Any = node.target
    found = target(torch.empty(*range(2, 2 + len(x.shape)), device="meta"), *args).shape
    return permute(plane, node, x, [size - 2 for size in found])


def unsqueeze(plane: Plane, node: fx.Node, x: Field, dim: int) -> Field:
    """Add an axis of size 1."""
    dim %= len(x.shape) + 1
    down, across = (axis + (dim <= axis) for axis in x.axes)
    inner = drop(drop(dim, max(down, across)), min(down, across))
    return plane.local(node, (down, across), x, lambda c: c.unsqueeze(inner))


def squeeze(plane: Plane, node: fx.Node, x: Field, dim: int | Sequence[int]) -> Field:
    """Remove axes of size 1."""
    dims = [dim] if isinstance(dim, int) else list(dim)
    gone = sorted({d % len(x.shape) for d in dims if x.shape[d] == 1})
    inner = [_other(node, x, d) for d in gone]
    down, across = (axis - sum(d < axis for d in gone) for axis in x.axes)
    return plane.local(node, (down, across), x, lambda c: c.squeeze(inner))


def select(plane: Plane, node: fx.Node, x: Field, dim: int, index: int) -> Field:
    """Take one entry of another axis."""
    dim %= len(x.shape)
    inner = _other(node, x, dim)
    down, across = (drop(axis, dim) for axis in x.axes)
    return plane.local(node, (down, across), x, lambda c: c.select(inner, index))


def view(plane: Plane, node: fx.Node, x: Field, *_: Any) -> Field:
    """Reshape other axes than those of pixels."""
    new, (down, across) = shape_of(node), x.axes
    before = math.prod(x.shape[:down])
    for axis in range(1, len(new) - 1 if across == down + 1 else 0):
        if math.prod(new[:axis]) == before and new[axis : axis + 2] == x.size:
            rest = (*new[1:axis], *new[axis + 2 :])

            def op(column: Tensor, rest: Sequence[int] = rest) -> Tensor:
                return column.reshape(column.shape[0], *rest)

            return plane.local(node, (axis, axis + 1), x, op)
    raise Refusal(node, f"the view {list(x.shape)} -> {list(new)} mixes pixels with other axes")


def split(plane: Plane, node: fx.Node, x: Field, *args: Any, dim: int | None = None) -> Parts:
    """Split on another axis; `getitem` picks the pieces."""
    removes = node.target is aten.unbind.int
    sized = () if removes else args[:1]
    given = args[len(sized)] if len(args) > len(sized) else (dim or 0)
    axis = given % len(x.shape)
    inner, target = _other(node, x, axis), node.target
    memo: dict[int, tuple[Any, Any]] = {}

    def pieces(column: Tensor) -> Any:
        # One split for all pieces of a column.
        if memo.get(0, (None,))[0] is not column:
            memo[0] = (column, target(column, *sized, inner))  # type: ignore[operator]
        return memo[0][1]

    del plane
    return Parts(x, axis, pieces, removes=removes)


def getitem(plane: Plane, node: fx.Node, parts: Any, index: int) -> Field:
    """Pick a piece of a split, or the first result of a layer with several."""
    if isinstance(parts, Field) and not index:
        return parts
    if not isinstance(parts, Parts):
        raise Refusal(node, "only the first result runs over pixels")
    x = parts.whole
    down, across = (drop(axis, parts.dim) if parts.removes else axis for axis in x.axes)
    return plane.local(node, (down, across), x, lambda c: parts.pieces(c)[index])


def expand(plane: Plane, node: fx.Node, x: Field, *_: Any, **__: Any) -> Field:
    """Broadcast other axes than those of pixels."""
    new = shape_of(node)
    down, across = (len(new) + axis for axis in x.from_end)
    sizes = [size for axis, size in enumerate(new) if axis not in (down, across)]
    return plane.local(node, (down, across), x, lambda c: c.expand(c.shape[0], *sizes[1:]))


def cat(plane: Plane, node: fx.Node, tensors: Sequence[Any], dim: int = 0) -> Field:
    """Put channels side by side."""
    if not all(isinstance(item, Field) for item in tensors):
        raise Refusal(node, "joins pixels with something known")
    inner = _other(node, tensors[0], dim)
    return plane.apply(node, lambda *columns: torch.cat(columns, inner), tuple(tensors))


def _inner(x: Field, dim: int) -> int:
    """Return what an axis is called in a column."""
    return dim - sum(axis < dim for axis in x.axes)


def _other(node: fx.Node, x: Field, dim: int) -> int:
    """Return what an axis that is not one of pixels is called in a column."""
    dim %= len(x.shape)
    if dim in x.axes:
        raise Refusal(node, "mixes pixels")
    return _inner(x, dim)


rules: dict[Any, Any] = {
    **dict.fromkeys((aten.conv2d.default, aten.conv2d.padding, aten.convolution.default), conv),
    aten.pad.default: pad,
    aten.constant_pad_nd.default: pad,
    aten.slice.Tensor: slice_,
    aten.narrow.default: narrow,
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
    aten.batch_norm.default: batch_norm,
    aten._native_batch_norm_legit_no_training.default: batch_norm,  # noqa: SLF001
    aten.layer_norm.default: over_last,
    aten.rms_norm.default: over_last,
    **dict.fromkeys((aten.softmax.int, aten.log_softmax.int), softmax),
    **dict.fromkeys((aten.sum.dim_IntList, aten.mean.dim, aten.amax.default), reduce),
    aten.linear.default: linear,
    aten.matmul.default: by_weight,
    aten.embedding.default: embedding,
    aten.permute.default: permute,
    **dict.fromkeys((aten.transpose.int, aten.movedim.int, aten.movedim.intlist), rearrange),
    aten.unsqueeze.default: unsqueeze,
    aten.squeeze.dim: squeeze,
    aten.squeeze.dims: squeeze,
    aten.select.int: select,
    **dict.fromkeys(VIEWS, view),
    **dict.fromkeys(
        (aten.split.Tensor, aten.split_with_sizes.default, aten.chunk.default, aten.unbind.int),
        split,
    ),
    operator.getitem: getitem,
    aten.expand.default: expand,
    aten.cat.default: cat,
}
