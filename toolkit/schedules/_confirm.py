"""The certificate of a sampler: one pass of the whole network confirms what was drawn."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from toolkit.capture.causal.choice import choose, options
from toolkit.capture.causal.derive import contexts
from toolkit.capture.causal.network import by_position, input_like, network_input
from toolkit.capture.causal.program import double_by_default
from toolkit.capture.causal.prove import TOLERANCE, doubled
from toolkit.capture.oracle import in_double
from toolkit.core.entry import Autoregressive
from toolkit.core.errors import ExportError

BATCH = 2


def confirm(model: nn.Module, sampler: Autoregressive, generate: nn.Module) -> None:
    """Draw in float64 and let the whole network choose again at every position.

    Arguments:
        model: The model.
        sampler: What is sampled.
        generate: The sampler, in float64.

    Raises:
        ExportError: The network chooses otherwise at some position.
    """
    (axis,) = sampler.position_axes
    length = sampler.input.shape[axis]
    draws = torch.Generator().manual_seed(0)
    uniform = torch.rand(length, BATCH, sampler.noises, generator=draws, dtype=torch.float64)
    noise = -(-uniform.clamp(1e-12, 1 - 1e-12).log()).log()
    given = [_double(item.value) for item in options(sampler, length, BATCH)]
    context = [_double(item) for item in contexts(sampler, BATCH)]
    with double_by_default(), torch.no_grad():
        drawn = by_position(sampler, generate(noise, *given, *context))
    with in_double(), torch.no_grad():
        x = network_input(sampler, drawn, input_like(sampler, noise))
        logits = doubled(model, sampler)(x, *context).movedim(1, 0)
        found = choose(sampler, logits, noise, given)
    off = (found - drawn).abs().reshape(length, -1).amax(1)
    limit = TOLERANCE * max(1.0, float(drawn.abs().max())) if sampler.head else 0
    if not bool((off <= limit).all()):
        raise ExportError(
            "the whole network chooses otherwise than the sampler did",
            where=f"position {int((off > limit).nonzero()[0])} of {length}",
            next_step="report the network: its layout by chunks is wrong",
        )


def _double(value: Tensor) -> Tensor:
    return value.double() if value.is_floating_point() else value
