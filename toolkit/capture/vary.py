"""Inputs like an entry's examples, at other sizes and with other values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from toolkit.core.entry import Entry, Input

JITTER = 0.05
STEP = 4
SCALES = (1.0, 4.0, 0.2, 16.0)


def sizes_of(entry: Entry, inputs: Sequence[Tensor]) -> dict[str, int]:
    """Return the size that every dynamic dimension has in the inputs."""
    return {
        name: tensor.shape[axis]
        for item, tensor in zip(entry.inputs, inputs, strict=True)
        for axis, name in enumerate(item.dims)
        if name
    }


def allowed(entry: Entry, name: str, size: int) -> int:
    """Return the size of a dimension nearest above the wanted one, or its largest."""
    low, _, high, multiple = entry.range_of(name)
    wanted = -(-max(size, low) // multiple) * multiple
    return min(wanted, high)


def further(entry: Entry, name: str, size: int) -> tuple[int, int]:
    """Return two more sizes of a dimension: one to record at, and one to compare at.

    Both differ from the given one and from each other where the range holds so many.
    """
    low, _, high, multiple = entry.range_of(name)
    held = range(-(-low // multiple) * multiple, high + 1, multiple)
    second = min(set(held) - {size}, key=lambda other: abs(other - size - STEP), default=size)
    rest = set(held) - {size, second}
    return second, min(rest, key=lambda other: abs(other - size - STEP + 1), default=second)


def varied(
    entry: Entry,
    examples: Sequence[Tensor],
    sizes: Mapping[str, int],
    *,
    seed: int,
    scale: float = 1.0,
) -> list[Tensor]:
    """Return inputs of the given sizes: the examples repeated, moved a little, kept valid.

    Arguments:
        entry: Says which axes are dynamic, and every input's range.
        examples: One tensor per input.
        sizes: Size by dimension.
        seed: Seed of the small random moves.
        scale: Factor on every second row; values leave the examples' own range where it is not 1.
    """
    draws = torch.Generator().manual_seed(seed)
    return [
        _varied(item, example.detach().cpu(), sizes, draws, scale).to(example.device)
        for item, example in zip(entry.inputs, examples, strict=True)
    ]


def _varied(
    item: Input, example: Tensor, sizes: Mapping[str, int], draws: torch.Generator, scale: float
) -> Tensor:
    value = example
    for axis, name in enumerate(item.dims):
        if name:
            value = value.index_select(axis, torch.arange(sizes[name]) % value.shape[axis])
    if not value.numel():
        return value.clone()
    if not value.is_floating_point():
        return value.roll(1, item.batch_axis).clone() if value.dim() else value.clone()
    spread = float(example.std()) if example.numel() > 1 else 1.0
    noise = torch.randn(value.shape, generator=draws, dtype=torch.float64).to(value.dtype)
    value = (value + JITTER * spread * noise).clamp(example.min(), example.max())
    if scale != 1.0 and value.dim():
        rows = torch.arange(value.shape[item.batch_axis]) % 2 == 0
        shape = [-1 if axis == item.batch_axis else 1 for axis in range(value.dim())]
        value = torch.where(rows.reshape(shape), scale * value, value)
    return valid(item, value)


def valid(item: Input, value: Tensor) -> Tensor:
    """Return a float input's values held to its range, uniform noise to [0, 1)."""
    low, high = item.low, item.high
    if item.kind == "noise" and item.law == "uniform":
        low, high = 0.0, 1.0 - 1e-6
    return value if low is None and high is None else value.clamp(low, high)
