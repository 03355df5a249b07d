"""Convolutions: the taps that are not zero, the newest of which sets the time of the result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional

from toolkit.capture.causal.lane import Column, Lane, Refusal
from toolkit.capture.causal.program import dtype_of, shape_of
from toolkit.capture.causal.rules.linear import times
from toolkit.capture.causal.rules.padding import filled_outside
from toolkit.capture.causal.sums import added, owed, summed
from toolkit.capture.causal.walk import Walk

aten = torch.ops.aten


@dataclass(frozen=True, slots=True)
class Kernel:
    """A convolution's weight and geometry, time being the first spatial axis.

    Arguments:
        weight: `(out, in / groups, taps, …)`, live taps only.
        bias: `(out,)`.
        stride: Of the other spatial axes.
        pads: Before and after, of the other spatial axes.
        dilation: Of the other spatial axes.
        groups: Groups of channels.
    """

    weight: Tensor
    bias: Tensor | None
    stride: list[int]
    pads: list[tuple[int, int]]
    dilation: list[int]
    groups: int


def conv(
    walk: Walk,
    node: fx.Node,
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Sequence[int] = (1,),
    padding: Sequence[int] | str = (0,),
    dilation: Sequence[int] = (1,),
    *rest: Any,
) -> Lane:
    """Convolve along time with cached columns."""
    if not isinstance(x, Lane):
        raise Refusal(node, "the kernel runs along time")
    w, b = walk.const(node, weight), walk.const(node, bias)
    spatial = w.ndim - 2
    strides, steps = (list(v) * (spatial // len(v)) for v in (stride, dilation))
    pads = pads_of(padding, steps, w.shape[2:])
    if x.axis != 2 or strides[0] != 1 or (len(rest) == 3 and rest[0]):
        raise Refusal(
            node, "strided or transposed along time, or time is not the first spatial axis"
        )
    live = walk.plan.once(node, "live taps", lambda: _live(w))
    source = replace(x, column=filled_outside(walk, x, x.column, *pads[0], 0.0))
    source = _padded(source, node, pads[0][0])
    origin = source.origin + live[-1] * steps[0]
    late = -origin if origin < 0 and shape_of(node)[2] == walk.length else 0
    lags = [origin + late - source.origin - tap * steps[0] for tap in live]
    kernel = Kernel(
        walk.plan.once(node, "taps", lambda: w[:, :, live].clone()),
        b,
        strides[1:],
        pads[1:],
        steps[1:],
        rest[-1] if rest else 1,
    )
    prefix = None
    if origin + late < 0 and source.prefix is not None:
        size = (w.shape[2] - 1 - live[-1]) * steps[0]
        tail = functional.pad(source.prefix, [0, 0] * (spatial - 1) + [0, size])
        target: Any = node.target
        zero = [0] + [before for before, _ in pads[1:]]
        prefix = target(tail, w, b, strides, zero, steps, *rest)
    if spatial == 1 and kernel.groups == 1:
        column = _terms(walk, node, source, lags, kernel)
    else:
        walk.reserve(source, lags)
        column = lambda: _rows(walk, source, lags, kernel)  # noqa: E731
    return walk.lane(node, 2, column, origin=origin + late, prefix=prefix)


def _live(weight: Tensor) -> list[int]:
    return [k for k in range(weight.shape[2]) if bool(weight[:, :, k].any())] or [0]


def pads_of(
    padding: Sequence[int] | str, dilation: Sequence[int], kernel: Sequence[int]
) -> list[tuple[int, int]]:
    """Return how many zeros a convolution puts before and behind each of its axes."""
    if isinstance(padding, str):
        whole = padding == "same"
        totals = [d * (k - 1) * whole for d, k in zip(dilation, kernel, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    widths = list(padding) * (len(kernel) // len(padding))
    return [(width, width) for width in widths]


def _padded(x: Lane, node: fx.Node, left: int) -> Lane:
    """Return the input with the convolution's own zeros as prefix."""
    if not left:
        return x
    shape = list(x.shape)
    shape[x.axis] = left if x.start <= 0 else max(0, min(0, x.origin) - (x.origin - left))
    zeros = torch.zeros(shape, dtype=dtype_of(node))
    prefix = zeros if x.prefix is None else torch.cat([zeros, x.prefix], x.axis)
    # Zeros are what an empty queue holds: the queue is that of the unpadded lane.
    key = x.key if x.prefix is None else f"{x.key}@{node.name}"
    return replace(x, key=key, origin=x.origin - left, prefix=prefix)


def _terms(walk: Walk, node: fx.Node, x: Lane, lags: Sequence[int], kernel: Kernel) -> Column:
    """Return a product with the newest column, added to what a bank gives of the past."""
    past = [lag for lag in lags if lag]
    here = len(past) < len(lags)
    taps, bias = kernel.weight, kernel.bias
    if not here:
        return walk.banks.past(node, x, past, taps[:, :, : len(past)], bias)
    turned = walk.plan.once(node, "newest tap", lambda: taps[:, :, -1].T.clone())
    if not past:
        return times(x.column, turned, bias)
    value, left = owed(x.column)
    if left is not None:
        bias = added([left @ turned] if bias is None else [bias, left @ turned])
    term = walk.banks.past(node, x, past, taps[:, :, : len(past)], bias)
    return summed([term], [(value, turned)])


def _rows(walk: Walk, x: Lane, lags: Sequence[int], kernel: Kernel) -> Tensor:
    """Return the newest row: what lies above by cached rows, the rest by the current one."""
    taps, bias = kernel.weight, kernel.bias
    if taps.ndim == 3:
        window = walk.window(x, lags)
        return functional.conv1d(window, taps, bias, groups=kernel.groups).squeeze(2)
    even = all(before == after for before, after in kernel.pads)
    padding = [before if even else 0 for before, _ in kernel.pads]

    def grown(value: Tensor) -> Tensor:
        widths = [width for pair in reversed(kernel.pads) for width in pair]
        return value if even else functional.pad(value, widths)

    above = [lag for lag in lags if lag]
    result = None
    if above:
        result = functional.conv2d(
            grown(walk.window(x, above)),
            taps[:, :, : len(above)],
            bias,
            [1, *kernel.stride],
            [0, *padding],
            [1, *kernel.dilation],
            kernel.groups,
        ).squeeze(2)
    if len(above) == len(lags) and result is not None:
        return result
    here = functional.conv1d(
        grown(x.column()),
        taps[:, :, -1],
        None if above else bias,
        kernel.stride,
        padding,
        kernel.dilation,
        kernel.groups,
    )
    return here if result is None else here + result


rules = {
    aten.conv1d.default: conv,
    aten.conv2d.default: conv,
    aten.conv1d.padding: conv,
    aten.conv2d.padding: conv,
    aten.convolution.default: conv,
}
