"""How a category or number follows from logits and noise, with what is given and the controls."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from toolkit.core.entry import Autoregressive, Input

FREE = -1
CONTROLS = ("temperature", "top_k", "top_p")


def controls_of(sampler: Autoregressive) -> tuple[str, ...]:
    """Return the names of a sampler's controls: of numbers only the scale can be changed."""
    if not sampler.controls:
        return ()
    return CONTROLS[:1] if sampler.head else CONTROLS


def options(sampler: Autoregressive, positions: int, batch: int) -> list[Input]:
    """Return the inputs of a sampler beside noise and context.

    `prefix`, int64 `(positions, batch)`, holds given categories, and -1 where one is drawn; or
    `(positions, batch, numbers)`, given numbers, and NaN where they are drawn.
    `temperature`, `top_k` and `top_p`, `(batch,)` each, hold per item.

    Arguments:
        sampler: Says which there are.
        positions: Positions of the examples.
        batch: Batch of the examples.
    """
    found = [_prefix(sampler, positions, batch)] if sampler.prefix else []
    dims = ("batch",)
    warm, mass = torch.full((batch,), 0.9), torch.full((batch,), 0.9)
    most = torch.full((batch,), max(1, sampler.levels - 1))
    controls = (
        Input("temperature", warm, dims, kind="context", low=0.05, high=20.0),
        Input("top_k", most, dims, kind="context", low=1, high=sampler.levels),
        Input("top_p", mass, dims, kind="context", low=0.05, high=1.0),
    )
    return [*found, *controls[: len(controls_of(sampler))]]


def _prefix(sampler: Autoregressive, positions: int, batch: int) -> Input:
    time, given = "time" if sampler.order == "time" else None, positions // 3
    if sampler.head:
        values = torch.randn(
            positions, batch, sampler.numbers, generator=torch.Generator().manual_seed(0)
        )
        values[given:] = torch.nan
        return Input("prefix", values, (time, "batch", None))
    levels = torch.full((positions, batch), FREE)
    levels[:given] = 0
    high = sampler.levels - 1
    return Input("prefix", levels, (time, "batch"), kind="token", low=FREE, high=high)


def split(
    sampler: Autoregressive, given: Sequence[Tensor]
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Return what has an entry per position, what holds for all, and the context."""
    first = int(sampler.prefix)
    second = first + len(controls_of(sampler))
    return list(given[:first]), list(given[first:second]), list(given[second:])


def choose(
    sampler: Autoregressive, logits: Tensor, noise: Tensor, given: Sequence[Tensor]
) -> Tensor:
    """Return the category of each item, int64, or its numbers, `(…, batch, numbers)`.

    Arguments:
        sampler: Says what is given.
        logits: `(…, batch, levels)`.
        noise: Standard noise of the sampler's law, `(…, batch, noises)`.
        given: The options: of `prefix` the entries of these positions, `(…, batch)` or
            `(…, batch, numbers)`.
    """
    prefix, controls, _ = split(sampler, given)
    if sampler.head:
        numbers = _numbers(sampler, logits, noise, controls)
        return torch.where(prefix[0].isnan(), numbers, prefix[0]) if prefix else numbers
    if controls:
        logits = controlled(logits, *controls)
    level = (logits + noise).argmax(-1)
    return torch.where(prefix[0] >= 0, prefix[0], level) if prefix else level


def _numbers(
    sampler: Autoregressive, parameters: Tensor, noise: Tensor, controls: Sequence[Tensor]
) -> Tensor:
    """Return numbers of a continuous law, `(…, batch, numbers)`."""
    warm = [temperature.unsqueeze(-1) for temperature in controls]
    if sampler.head == "gaussian":
        mean, log_scale = parameters.chunk(2, -1)
        return mean + log_scale.exp() * _times(noise, warm)
    count, numbers = sampler.components, sampler.numbers
    sizes = [count, count * numbers, count * numbers]
    logits, means, log_scales = torch.split(parameters, sizes, -1)
    chosen, more, less = torch.split(noise, [count, numbers, numbers], -1)
    component = (logits + _times(chosen, warm)).argmax(-1)
    mean, log_scale = (_of(component, item, sampler) for item in (means, log_scales))
    # The difference of two Gumbel variables is logistic.
    return mean + log_scale.exp() * _times(more - less, warm)


def _times(noise: Tensor, factors: Sequence[Tensor]) -> Tensor:
    for factor in factors:
        noise = noise * factor
    return noise


def _of(component: Tensor, values: Tensor, sampler: Autoregressive) -> Tensor:
    """Return the chosen component's values, `(…, batch, numbers)` of `(…, batch, K * numbers)`."""
    if sampler.numbers == 1:
        return values.gather(-1, component.unsqueeze(-1))
    by_component = values.reshape(*component.shape, sampler.components, sampler.numbers)
    places = component[..., None, None].expand(*component.shape, 1, sampler.numbers)
    return by_component.gather(-2, places).squeeze(-2)


def controlled(logits: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor) -> Tensor:
    """Return logits over temperature, those that top-k or top-p leave out at minus infinity.

    What ties with the last that is kept is kept.

    Arguments:
        logits: `(…, batch, levels)`.
        temperature: `(batch,)`, above zero.
        top_k: How many of the largest are kept, `(batch,)`, int64.
        top_p: The fewest of the largest whose mass reaches this are kept, `(batch,)`.
    """
    logits = logits / temperature.unsqueeze(-1)
    ordered = logits.sort(-1, descending=True).values
    rank = torch.arange(logits.shape[-1], device=logits.device)
    kept = rank < top_k.unsqueeze(-1)
    weights = torch.where(kept, ordered, -torch.inf).softmax(-1)
    before = weights.cumsum(-1) - weights
    kept = kept & (before < top_p.unsqueeze(-1))
    least = torch.where(kept, ordered, torch.inf).amin(-1, keepdim=True)
    return torch.where(logits >= least, logits, -torch.inf)
