"""Chunks of positions: past taps that reach back further than a chunk are known before it starts.

A convolution whose nearest past tap lies at least a chunk behind reads nothing that the chunk
draws: its past terms at all positions of the chunk are one product, and its queue is read and
written once per chunk. Chunks of chunks carry the same further.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.capture.causal.body import BATCHES, Body, body
from toolkit.capture.causal.derive import (
    Derived,
    choices,
    drawing,
    example,
    incrementals,
    pieces,
)
from toolkit.capture.causal.incremental import Incremental
from toolkit.capture.causal.plan import Far
from toolkit.capture.causal.program import blank, double_by_default
from toolkit.core.entry import Autoregressive
from toolkit.core.errors import ExportError

# Positions of the chunks; each holds whole chunks of the next size.
SIZES = (40, 8)


@dataclass(frozen=True, slots=True)
class DerivedChunks:
    """The step of a network along time, its far past apart.

    Arguments:
        plain: The step. Its `draw` keeps no far states: at the end it takes the far terms, one
            `(batch, out)` per convolution, and gives the columns that they read, one per lane.
        prologue: Context to known sequences, known values, first states and the far terms' first
            queues, `(furthest lag, batch, channels)`, oldest first.
        sizes: Positions of the chunks, the longest first.
        far: Past terms that are computed once per chunk, those of the longest chunks first.
    """

    plain: Derived
    prologue: Body
    sizes: tuple[int, ...]
    far: tuple[Far, ...]


def derive_chunks(model: nn.Module, sampler: Autoregressive) -> DerivedChunks:
    """Derive the step of a causal network by chunks of positions.

    Arguments:
        model: The model in evaluation mode; it is left as it is.
        sampler: What is sampled, and how the network is called.

    Raises:
        ExportError: No past term lies a chunk behind.
        Refusal: The network is not causal, or holds an operator that no rule follows.
        UsageError: The declaration does not fit the network.
    """
    at = incrementals(model, sampler)
    sizes = _sizes(at(BATCHES[0]))

    @cache
    def apart(batch: int) -> Incremental:
        return at(batch).by_chunks(sizes)

    def draw(batch: int) -> tuple[Callable[..., Any], list[Tensor]]:
        inc = apart(batch)
        terms = [torch.zeros(batch, width) for far in inc.plan.far for width in far.widths]
        return drawing(inc.draw, sampler), [*choices(sampler, batch), *example(inc), *terms]

    def prologue(batch: int) -> tuple[Callable[..., Any], list[Tensor]]:
        inc = apart(batch)
        return inc.known, [blank(node) for node in inc.program.inputs[1:]]

    plain = pieces(at, draw)
    with double_by_default():
        far = tuple(apart(BATCHES[0]).plan.far)
        return DerivedChunks(plain, body(prologue, "the prologue"), sizes, far)


def _sizes(inc: Incremental) -> tuple[int, ...]:
    """Return the sizes of chunks that some past term lies behind.

    Raises:
        ExportError: There is none.
    """
    lags = [min(inc.plan.pasts[node].lags) for bank in inc.plan.banks for node in bank.nodes]
    found, least = [], inc.length
    for size in SIZES:
        if any(size <= lag < least for lag in lags):
            found.append(size)
            least = size
    if not found:
        raise ExportError(
            f"no convolution reads only what lies at least {SIZES[-1]} positions back",
            where=f"nearest past taps {sorted(set(lags))}, {inc.length} positions",
            next_step="scan lays it out",
        )
    return tuple(found)
