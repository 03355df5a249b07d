"""How a category follows from logits and noise, with what is given and with the user's controls."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from toolkit.core.entry import Autoregressive, Input

FREE = -1
CONTROLS = ("temperature", "top_k", "top_p")


def options(sampler: Autoregressive, positions: int, batch: int) -> list[Input]:
    """Return the inputs of a sampler beside noise and context.

    `prefix`, int64 `(positions, batch)`, holds given categories, and -1 where one is drawn.
    `temperature`, `top_k` and `top_p`, `(batch,)` each, hold per item.

    Arguments:
        sampler: Says which there are.
        positions: Positions of the examples.
        batch: Batch of the examples.
    """
    found = []
    if sampler.prefix:
        given = torch.full((positions, batch), FREE)
        given[: positions // 3] = 0
        time = "time" if sampler.order == "time" else None
        high = sampler.levels - 1
        found.append(Input("prefix", given, (time, "batch"), kind="token", low=FREE, high=high))
    if sampler.controls:
        dims = ("batch",)
        warm, mass = torch.full((batch,), 0.9), torch.full((batch,), 0.9)
        most = torch.full((batch,), max(1, sampler.levels - 1))
        found += [
            Input("temperature", warm, dims, kind="context", low=0.05, high=20.0),
            Input("top_k", most, dims, kind="context", low=1, high=sampler.levels),
            Input("top_p", mass, dims, kind="context", low=0.05, high=1.0),
        ]
    return found


def split(
    sampler: Autoregressive, given: Sequence[Tensor]
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Return what has an entry per position, what holds for all, and the context."""
    first = int(sampler.prefix)
    second = first + len(CONTROLS) * sampler.controls
    return list(given[:first]), list(given[first:second]), list(given[second:])


def choose(
    sampler: Autoregressive, logits: Tensor, noise: Tensor, given: Sequence[Tensor]
) -> Tensor:
    """Return the category of each item, int64.

    Arguments:
        sampler: Says what is given.
        logits: `(…, batch, levels)`.
        noise: Standard Gumbel noise of the same shape.
        given: The options: of `prefix` the entries of these positions, `(…, batch)`.
    """
    prefix, controls, _ = split(sampler, given)
    if controls:
        logits = controlled(logits, *controls)
    level = (logits + noise).argmax(-1)
    return torch.where(prefix[0] >= 0, prefix[0], level) if prefix else level


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
    rank = torch.arange(logits.shape[-1])
    kept = rank < top_k.unsqueeze(-1)
    weights = torch.where(kept, ordered, -torch.inf).softmax(-1)
    before = weights.cumsum(-1) - weights
    kept = kept & (before < top_p.unsqueeze(-1))
    least = torch.where(kept, ordered, torch.inf).amin(-1, keepdim=True)
    return torch.where(logits >= least, logits, -torch.inf)
