"""How a pixel is drawn: one category, or one per colour, each given those before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from toolkit.capture.causal.choice import choose, options, split
from toolkit.capture.causal.network import looked_up
from toolkit.core.entry import Autoregressive

Logits = Callable[[Tensor], Tensor]


def draw_pixel(
    sampler: Autoregressive, given: Sequence[Tensor], logits: Logits, blank: Tensor
) -> tuple[Tensor, Tensor]:
    """Return categories and the pixels that stand for them.

    Of colours the categories are `(items, colours)` in the order of drawing, else `(items,)`.

    Arguments:
        sampler: What is sampled.
        given: Noise `(items, levels)`, or `(colours, items, levels)` in the order of drawing;
            then the options, the prefix with the same first axes.
        logits: Pixels `(items, …)` to `(items, colours * levels)`.
        blank: Pixels of which the shape and the element type matter.
    """
    noise, rest = given[0], given[1:]
    prefix, controls, _ = split(sampler, rest)
    if sampler.channel_order is None:
        level = choose(sampler, logits(blank), noise, [*prefix, *controls])
        return level, looked_up(sampler, level, blank)
    colours = len(sampler.channel_order)
    unread = torch.zeros_like(blank.reshape(-1, colours)[:, :1])
    levels: dict[int, Tensor] = {}
    values: dict[int, Tensor] = {}

    def pixels() -> Tensor:
        known = [values.get(colour, unread) for colour in range(colours)]
        return torch.cat(known, 1).reshape(blank.shape)

    for rank, colour in enumerate(sampler.channel_order):
        own = logits(pixels()).reshape(-1, colours, sampler.levels)[:, colour]
        here = [item[rank] for item in prefix]
        levels[colour] = choose(sampler, own, noise[rank], [*here, *controls])
        values[colour] = looked_up(sampler, levels[colour], unread)
    return torch.stack([levels[colour] for colour in sampler.channel_order], 1), pixels()


def pixel_choices(sampler: Autoregressive, items: int) -> list[Tensor]:
    """Return examples of one pixel's noise and options, in float64."""
    colours = () if sampler.channel_order is None else (sampler.colours,)
    found = [torch.zeros(*colours, items, sampler.noises, dtype=torch.float64)]
    for item in options(sampler, sampler.colours, items):
        value: Tensor = item.value
        if item.name == "prefix" and not colours:
            value = value[0]
        found.append(value.double() if value.is_floating_point() else value)
    return found
