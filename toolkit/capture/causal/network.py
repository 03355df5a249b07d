"""A declared sampler's network, its logits laid out as `(batch, positions…, categories)`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from toolkit.capture.causal.choice import choose, split
from toolkit.capture.module import EntryModule, as_tuple
from toolkit.core.entry import Autoregressive
from toolkit.core.errors import UsageError

# Of the largest number: a whole forward sums in another order than a step.
ROUNDINGS = 64
# Numbers that a table of all categories' values may hold.
LARGEST_TABLE = 1 << 20


class Network(nn.Module):
    """Call a model and return what it says of each position.

    Arguments:
        model: The model.
        sampler: How it is called and where its categories lie.
        whole: Whether a model that speaks of the last position alone is asked for every prefix.
    """

    def __init__(self, model: nn.Module, sampler: Autoregressive, *, whole: bool = False) -> None:
        super().__init__()
        self.model = EntryModule(model, sampler.call)
        self.sampler, self.whole = sampler, whole

    def forward(self, x: Tensor, *context: Tensor) -> Tensor:
        """Return logits `(batch, time, levels)` or `(batch, height, width, levels)`.

        Where the model speaks of the last position alone and not all prefixes are asked for,
        `(batch, 1, levels)`.

        Raises:
            UsageError: The logits do not hold `levels` categories along `levels_axis`.
        """
        logits = self._logits(x, *context)
        sampler = self.sampler
        if sampler.order == "time" and self.whole and logits.shape[1] == 1:
            (along,) = sampler.position_axes
            prefixes = [x.narrow(along, 0, count + 1) for count in range(x.shape[along] - 1)]
            logits = torch.cat([*(self._logits(item, *context) for item in prefixes), logits], 1)
        return logits

    def _logits(self, x: Tensor, *context: Tensor) -> Tensor:
        logits = as_tuple(self.model(x, *context))[0]
        sampler = self.sampler
        axis = sampler.levels_axis
        if not -logits.ndim <= axis < logits.ndim or logits.shape[axis] != sampler.levels:
            raise UsageError(
                f"the logits {list(logits.shape)} hold no {sampler.levels} categories along axis "
                f"{axis}",
                where=f"Autoregressive({sampler.name!r}, …)",
                next_step="correct levels or levels_axis",
            )
        logits = logits.movedim(axis, -1)
        if sampler.channel_order is not None and logits.ndim == len(sampler.input.shape) + 1:
            logits = logits.movedim(_colour_axis(sampler), -2).flatten(-2)
        positions = 2 if sampler.order == "raster" else 1
        while logits.ndim > positions + 2 and logits.shape[1] == 1:
            logits = logits.squeeze(1)
        if sampler.order == "time" and logits.ndim == 2:
            logits = logits.unsqueeze(1)
        if logits.ndim != positions + 2:
            raise UsageError(
                f"the logits {list(logits.shape)} have more axes than batch, positions and levels",
                where=f"Autoregressive({sampler.name!r}, …)",
                next_step="return one row of categories per position",
            )
        return logits


def _colour_axis(sampler: Autoregressive) -> int:
    """Return which axis of the input holds colours."""
    positions = sampler.position_axes
    return next(axis for axis in range(1, len(sampler.input.shape)) if axis not in positions)


def by_pixel(sampler: Autoregressive, drawn: Tensor) -> Tensor:
    """Return `(pixels, batch, colours, …)` of what is `(positions, batch, …)` as it is drawn."""
    order = sampler.channel_order or (0,)
    drawn = drawn.reshape(-1, len(order), *drawn.shape[1:])
    return drawn[:, [order.index(colour) for colour in range(len(order))]].movedim(1, 2)


def as_drawn(sampler: Autoregressive, pixels: Tensor) -> Tensor:
    """Return `(positions, batch, …)` of what is `(pixels, batch, colours, …)`."""
    return pixels[:, :, list(sampler.channel_order or (0,))].movedim(2, 1).flatten(0, 1)


def embedded(sampler: Autoregressive, levels: Tensor, like: Tensor) -> Tensor:
    """Return the values that categories are fed back as.

    Arguments:
        sampler: Says how.
        levels: Categories, int64.
        like: A tensor of the network's input at the same positions.

    Raises:
        UsageError: The values do not fill the input.
    """
    if sampler.head:
        levels = levels.reshape(like.shape)
    values: Any = levels if sampler.embed is None else sampler.embed(levels)
    if values.numel() != like.numel():
        raise UsageError(
            f"embed gives {list(values.shape)} where the input holds {list(like.shape)}",
            where=f"Autoregressive({sampler.name!r}, …)",
            next_step="return one value per category, or one vector",
        )
    return torch.as_tensor(values).reshape(like.shape).to(like.dtype)


def looked_up(sampler: Autoregressive, levels: Tensor, like: Tensor) -> Tensor:
    """Return the same as `embedded` of one position's categories `(items,)`, by one operator.

    Every category's value is computed beforehand: where this is traced, it is a constant.
    """
    width = math.prod(like.shape[1:])
    if sampler.head or sampler.embed is None or sampler.levels * width > LARGEST_TABLE:
        return embedded(sampler, levels, like)
    every = torch.arange(sampler.levels, device=like.device)
    table = embedded(sampler, every, like.new_zeros(sampler.levels, width))
    return functional.embedding(levels, table).reshape(like.shape)


def start_column(sampler: Autoregressive, like: Tensor) -> Tensor:
    """Return what is fed at the first position where the logits are for the next one.

    Arguments:
        sampler: Says what it is.
        like: A column of the network's input at a batch of 1.
    """
    if sampler.head:
        start = torch.full((1, sampler.numbers), float(sampler.start), device=like.device)
        return embedded(sampler, start, like)
    return embedded(sampler, torch.full((1,), int(sampler.start), device=like.device), like)


def any_samples(sampler: Autoregressive, positions: int, batch: int) -> Tensor:
    """Return categories, int64 `(positions, batch)`, or numbers in float64, of no meaning."""
    draws = torch.Generator().manual_seed(0)
    if sampler.head:
        shape = (positions, batch, sampler.numbers)
        return torch.randn(shape, generator=draws, dtype=torch.float64)
    return torch.randint(sampler.levels, (positions, batch), generator=draws)


def network_input(sampler: Autoregressive, levels: Tensor, like: Tensor) -> Tensor:
    """Return the parallel network's input for categories at every position.

    Arguments:
        sampler: Says how categories are fed back, and of which position the logits speak.
        levels: Categories, int64 `(positions, batch)`, or numbers `(positions, batch, numbers)`.
        like: An example input of the same batch and positions.
    """
    axes = sampler.position_axes
    if sampler.predicts == "next":
        first = torch.full_like(levels[:1], sampler.start)
        levels = torch.cat([first, levels[:-1]])
    if sampler.channel_order is not None:
        levels = by_pixel(sampler, levels)
    sizes = [like.shape[axis] for axis in axes]
    columns = like.movedim(axes, tuple(range(len(axes)))).flatten(0, len(axes) - 1)
    values = [embedded(sampler, level, columns[0]) for level in levels]
    stacked = torch.stack(values)
    return stacked.reshape(*sizes, *stacked.shape[1:]).movedim(tuple(range(len(axes))), axes)


def exact_samples(
    model: nn.Module,
    sampler: Autoregressive,
    noise: Tensor,
    given: Sequence[Tensor],
    guess: Tensor,
) -> Tensor:
    """Return the samples that the whole network confirms at every position.

    Arguments:
        model: The model.
        sampler: What is sampled.
        noise: `(positions, batch, noises)`.
        given: The options, then the conditioning inputs.
        guess: First samples, in their layout.
    """
    network = Network(model, sampler, whole=True)
    prefix, controls, context = split(sampler, given)
    like = input_like(sampler, noise)
    levels = by_position(sampler, guess)
    for _ in range(len(noise) + 1):
        logits = network(network_input(sampler, levels, like), *context)
        logits = logits.flatten(1, -2).movedim(1, 0)
        if sampler.channel_order is not None:
            logits = as_drawn(
                sampler, logits.reshape(*logits.shape[:-1], sampler.colours, sampler.levels)
            )
        found = choose(sampler, logits, noise, [*prefix, *controls])
        if _same(found, levels):
            break
        levels = found
    return laid_out(sampler, levels)


def _same(found: Tensor, levels: Tensor) -> bool:
    """Return whether categories are equal, or numbers up to rounding."""
    if not found.is_floating_point():
        return torch.equal(found, levels)
    limit = ROUNDINGS * torch.finfo(found.dtype).eps * float(levels.abs().max())
    return bool(((found - levels).abs() <= limit).all())


def input_like(sampler: Autoregressive, noise: Tensor) -> Tensor:
    """Return zeros like the network's input at the noise's length and batch."""
    shape = list(sampler.input.shape)
    shape[sampler.input.batch_axis] = noise.shape[1]
    if sampler.order == "time":
        (axis,) = sampler.position_axes
        shape[axis] = noise.shape[0]
    dtype: torch.dtype = getattr(torch, sampler.input.dtype)
    return noise.new_zeros(shape, dtype=noise.dtype if dtype.is_floating_point else dtype)


def laid_out(sampler: Autoregressive, levels: Tensor) -> Tensor:
    """Return categories `(positions, batch)`, or numbers, in the layout of the network's input.

    Where a position of the input holds more numbers than are drawn, `(batch, positions…)`.
    """
    axes, shape = sampler.position_axes, sampler.input.shape
    sizes = [shape[axis] for axis in axes] if sampler.order == "raster" else [levels.shape[0]]
    if not sampler.like_input:
        return levels.T.reshape(levels.shape[1], *sizes).contiguous()
    if sampler.channel_order is not None:
        levels = by_pixel(sampler, levels)
    others = [shape[axis] for axis in range(1, len(shape)) if axis not in axes]
    by_position = levels.reshape(*sizes, levels.shape[1], *others)
    return by_position.movedim(tuple(range(len(axes))), axes).contiguous()


def by_position(sampler: Autoregressive, levels: Tensor) -> Tensor:
    """Return laid-out categories as `(positions, batch)`, or numbers with a last axis."""
    if not sampler.like_input:
        return levels.flatten(1).T
    axes = sampler.position_axes
    columns = levels.movedim(axes, tuple(range(len(axes)))).flatten(0, len(axes) - 1)
    if sampler.channel_order is not None:
        return as_drawn(sampler, columns.reshape(*columns.shape[:2], sampler.colours))
    last = (sampler.numbers,) if sampler.head else ()
    return columns.reshape(*columns.shape[:2], *last)
