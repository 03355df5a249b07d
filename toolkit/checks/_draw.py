"""Inputs that checks ask about: real data, noise, tails and edges."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toolkit.core.entry import Input

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from toolkit.core.protocols import Source

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
    samples = {}
    for item in source.entry.inputs:
        if not _is_float(item) or (item.kind == "noise" and item.law != "normal"):
            samples[item.name] = like(item, count, draws)
            continue
        centre, spread = _moments(source, item)
        values = torch.randn(item.batched(count), generator=draws)
        samples[item.name] = (centre + scale * spread * values).to(_dtype(item))
    return samples


def tails(source: Source, count: int) -> dict[str, Tensor]:
    """Return samples three times as wide as the data."""
    return noise(source, count, scale=TAIL)


def edges(source: Source) -> dict[str, Tensor]:
    """Return constant samples at both zeros, denormals, ones and the data's own extremes."""
    import torch

    samples = {}
    for item in source.entry.inputs:
        if not _is_float(item):
            low, high = item.low or 0, item.high if item.high is not None else 1
            values: list[float] = [low, high] * ((len(EDGES) + 2) // 2)
        elif item.kind == "noise" and item.law == "uniform":
            values = [0.0, 1e-7, 0.25, 0.5, 0.75, 1 - 1e-6] * 2
        else:
            sample = real(source, 64)[item.name]
            values = [*EDGES, float(sample.min()), float(sample.max())]
        column = torch.tensor(values[: len(EDGES) + 2], dtype=_dtype(item))
        shape = [1] * len(item.shape)
        shape[item.batch_axis] = len(column)
        samples[item.name] = column.reshape(shape).expand(item.batched(len(column))).clone()
    return samples


def like(item: Input, count: int, draws: torch.Generator) -> Tensor:
    """Return samples of an input's law, range, or with its example's moments."""
    import torch

    shape = item.batched(count)
    if not _is_float(item):
        low, high = item.low or 0, item.high
        if high is None:
            high = int(item.value.max()) if item.value is not None else 1
        return torch.randint(low, high + 1, shape, generator=draws).to(_dtype(item))
    if item.kind == "noise":
        return law(item.law, shape, draws).to(_dtype(item))
    values = torch.randn(shape, generator=draws)
    if item.value is not None and item.value.numel() > 1:
        values = item.value.float().mean() + item.value.float().std() * values
    return values.to(_dtype(item))


def law(name: str, shape: tuple[int, ...], draws: torch.Generator) -> Tensor:
    """Return noise of a law: `normal`, `uniform` on [0, 1), or standard `gumbel`."""
    import torch

    if name == "normal":
        return torch.randn(shape, generator=draws)
    uniform = torch.rand(shape, generator=draws)
    if name == "uniform":
        return uniform
    return -torch.log(-torch.log(uniform.clamp(1e-9, 1 - 1e-7)))


def _has_data(source: Source, item: Input) -> bool:
    if source.data is None or item.kind != "data":
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
    return both[torch.arange(count) % len(both)].to(_dtype(item))


def _moments(source: Source, item: Input) -> tuple[float, float]:
    sample = real(source, 256)[item.name].double()
    return float(sample.mean()), float(sample.std()) or 1.0


def _is_float(item: Input) -> bool:
    return item.dtype.startswith(("float", "bfloat"))


def _dtype(item: Input) -> torch.dtype:
    import torch

    found: torch.dtype = getattr(torch, item.dtype)
    return found
