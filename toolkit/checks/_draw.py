"""Inputs that checks ask about: real data, noise, tails and edges, all inside their domain."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

from toolkit.core.entry import Input
from toolkit.core.signature import folded

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from toolkit.core.protocols import Source

T = TypeVar("T")

TAIL = 3.0
EDGES = (0.0, -0.0, 1e-40, -1e-40, 1.0, -1.0, 1e-6, -1e-6)


def generator(source: Source, salt: int) -> torch.Generator:
    """Return a generator that depends on the source's seed and the salt."""
    import torch

    return torch.Generator().manual_seed(source.seed * 1009 + salt)


def real(source: Source, count: int) -> dict[str, Tensor]:
    """Return real samples where the recipe has data, else samples like the example.

    Noise inputs follow their law; integers are drawn from their range.
    """
    draws = generator(source, 1)
    return {
        item.name: _held_out(source, item, count)
        if _has_data(source, item)
        else like(item, count, draws)
        for item in source.entry.inputs
    }


def noise(source: Source, count: int, *, scale: float = 1.0) -> dict[str, Tensor]:
    """Return random samples with the real samples' mean and deviation, times `scale`.

    Integers and uniform noise keep their range: outside it they are not inputs.
    """
    import torch

    draws = generator(source, 2 if scale == 1.0 else 3)
    known = real(source, min(256, source.samples))
    samples = {}
    for item in source.entry.inputs:
        if not _is_float(item) or (item.kind == "noise" and item.law != "normal"):
            samples[item.name] = like(item, count, draws)
            continue
        centre, spread = _moments(known[item.name])
        values = torch.randn(item.batched(count), generator=draws)
        samples[item.name] = within(item, centre + scale * spread * values)
    return samples


def tails(source: Source, count: int) -> dict[str, Tensor]:
    """Return samples three times as wide as the data."""
    return noise(source, count, scale=TAIL)


def edges(source: Source, count: int) -> dict[str, Tensor]:
    """Return samples at both zeros, denormals, ones, the data's extremes and the bounds.

    Every bound of the domain comes with its neighbour inside. The first samples are constant, one
    for each value; the others, up to `count`, are real ones with one element replaced. Inputs that
    are not `movable` stay real.
    """
    import torch

    known = real(source, min(64, source.samples))
    moved = [item for item in source.entry.inputs if movable(item)]
    columns = {item.name: _edge_values(item, known[item.name]) for item in moved}
    rows = evenly(range(max(map(len, columns.values()), default=0)), count)
    others = real(source, count - len(rows))
    places = torch.randint(2**31, (count - len(rows),), generator=generator(source, 6))
    samples = real(source, count)
    for item in moved:
        column = columns[item.name]
        alike = constant(item, column[torch.tensor(rows) % len(column)])
        one = column[torch.arange(count - len(rows)) % len(column)]
        pieces = [alike, replaced(item, one, others[item.name], places)]
        samples[item.name] = torch.cat(pieces, item.batch_axis)
    return samples


def chosen(source: Source, inputs: dict[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
    """Return some samples of all inputs by their numbers."""
    return {spec.name: spec.rows(inputs[spec.name], rows) for spec in source.signature.inputs}


def evenly(values: Sequence[T], most: int) -> list[T]:
    """Return all values, or the first, the last and as many between them as are asked for."""
    count = min(len(values), max(1, most))
    return [values[round(k * (len(values) - 1) / max(1, count - 1))] for k in range(count)]


def movable(item: Input) -> bool:
    """Return whether a sample of an input has elements of its own."""
    return not item.shared and 0 not in item.shape


def _edge_values(item: Input, known: Tensor) -> Tensor:
    import torch

    dtype = _dtype(item)
    if not _is_float(item):
        high = 1 if item.high is None else item.high
        return torch.tensor([int(item.low or 0), int(high)]).to(dtype)
    if item.kind == "noise" and item.law == "uniform":
        values = torch.tensor([0.0, 1e-7, 0.25, 0.5, 0.75, 1 - 1e-6], dtype=dtype)
    else:
        values = torch.tensor([*EDGES, float(known.min()), float(known.max())], dtype=dtype)
    return torch.cat([values[inside(item, values)], *_at_bounds(item)])


def _at_bounds(item: Input) -> list[Tensor]:
    import torch

    found = []
    for bound, towards in ((item.low, torch.inf), (item.high, -torch.inf)):
        if bound is not None:
            at = torch.tensor([bound], dtype=_dtype(item))
            beside = torch.nextafter(at, torch.full_like(at, towards))
            found += [at, beside[inside(item, beside)]]
    return found


def constant(item: Input, column: Tensor) -> Tensor:
    """Return one sample per value of a column `(samples,)`, the same in every element."""
    shape = [1] * len(item.shape)
    shape[item.batch_axis] = len(column)
    return column.reshape(shape).expand(item.batched(len(column))).clone()


def replaced(item: Input, column: Tensor, base: Tensor, places: Tensor) -> Tensor:
    """Return the base samples, each with one element as the column has it.

    Arguments:
        item: The input.
        column: A value for each sample.
        base: The samples, `item.batched(len(column))`.
        places: Which element of each sample; numbers beyond the last count on from the first.
    """
    import torch

    rows = base.movedim(item.batch_axis, 0).clone()
    flat = rows.reshape(len(rows), math.prod(rows.shape[1:]))
    flat[torch.arange(len(flat)), places % flat.shape[1]] = column
    return flat.reshape(rows.shape).movedim(0, item.batch_axis)


def inside(item: Input, values: Tensor) -> Tensor:
    """Return which values lie in the input's domain."""
    import torch

    good = torch.ones_like(values, dtype=torch.bool)
    if item.low is not None:
        good &= values >= item.low
    return good if item.high is None else good & (values <= item.high)


def within(item: Input, values: Tensor) -> Tensor:
    """Return values in the input's element type, mirrored at the bounds of its domain."""
    mirrored: Tensor = folded(values.to(_dtype(item)), item.low, item.high)
    return mirrored


def like(
    item: Input, count: int, draws: torch.Generator, *, shape: tuple[int, ...] | None = None
) -> Tensor:
    """Return samples of an input's law, range, or with its example's moments.

    Arguments:
        item: The input.
        count: How many samples.
        draws: Where the numbers come from.
        shape: Shape of all samples together; the example's by default.
    """
    import torch

    shape = item.batched(count) if shape is None else shape
    if not _is_float(item):
        high = item.high
        if high is None:
            high = item.value.max() if _has_example(item) else 1
        whole = torch.randint(int(item.low or 0), int(high) + 1, shape, generator=draws)
        return whole.to(_dtype(item))
    if item.kind == "noise":
        return within(item, law(item.law, shape, draws))
    values = torch.randn(shape, generator=draws)
    if _has_example(item):
        centre, spread = _moments(item.value[~item.value.isnan()])
        values = centre + spread * values
    return _with_gaps(item, within(item, values))


def _with_gaps(item: Input, values: Tensor) -> Tensor:
    """Return values with NaN wherever the example has it, the example repeated or cut to fit."""
    import torch

    if item.value is None or not item.value.isnan().any():
        return values
    gaps = item.value.isnan()
    for axis, size in enumerate(values.shape):
        gaps = gaps.index_select(axis, torch.arange(size) % gaps.shape[axis])
    return values.masked_fill(gaps, torch.nan)


def law(name: str, shape: tuple[int, ...], draws: torch.Generator) -> Tensor:
    """Return noise of a law: `normal`, `uniform` on [0, 1), or standard `gumbel`."""
    import torch

    if name == "normal":
        return torch.randn(shape, generator=draws)
    uniform = torch.rand(shape, generator=draws)
    if name == "uniform":
        return uniform
    return -torch.log(-torch.log(uniform.clamp(1e-9, 1 - 1e-7)))


def _has_example(item: Input) -> bool:
    return item.value is not None and item.value.numel() > 0


def _has_data(source: Source, item: Input) -> bool:
    if source.data is None or item.kind != "data" or item.shared:
        return False
    sample = source.data.test.get(item.name)
    return sample is not None and tuple(sample.shape[1:]) == item.shape[1:]


def _held_out(source: Source, item: Input, count: int) -> Tensor:
    """Return held-out samples, then training samples, repeated if both are too few."""
    import torch

    data = source.data
    if data is None:
        raise ValueError("the source has no data")
    both = torch.cat([data.test[item.name], data.train[item.name]])
    chosen = both[torch.arange(count) % len(both)].to(_dtype(item))
    return chosen.clamp(item.low, item.high) if (item.low, item.high) != (None, None) else chosen


def _moments(known: Tensor) -> tuple[float, float]:
    """Return mean and deviation; numbers that are all alike do not say how far values lie apart."""
    sample = known.double()
    spread = float(sample.std()) if sample.numel() > 1 else 0.0
    return float(sample.mean()), spread or 1.0


def _is_float(item: Input) -> bool:
    return item.dtype.startswith(("float", "bfloat"))


def _dtype(item: Input) -> torch.dtype:
    import torch

    found: torch.dtype = getattr(torch, item.dtype)
    return found
