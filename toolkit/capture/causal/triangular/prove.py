"""Proof of steps over a vector: every position's logits are those of the whole pass."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from toolkit.capture.causal.prove import TOLERANCE, check_causality, doubled, random_input
from toolkit.capture.causal.triangular.layout import Layout
from toolkit.capture.causal.triangular.network import TriangularStep
from toolkit.capture.oracle import in_double
from toolkit.core.entry import Autoregressive
from toolkit.core.errors import ExportError


def prove_steps(model: nn.Module, sampler: Autoregressive, layouts: tuple[Layout, Layout]) -> None:
    """Check in float64 that steps give a network's logits, and the difference of two.

    Raises:
        ExportError: The network is not causal, or a step differs from the whole pass.
    """
    with in_double(), torch.no_grad():
        network = doubled(model, sampler)
        x = random_input(sampler)
        logits = network(x)
        check_causality(network, sampler, x, [])
        whole, drawn = layouts
        _compare(logits, step_by_step(whole, sampler, x))
        if drawn is not whole:
            _compare(logits.diff(dim=2), step_by_step(drawn, sampler, x))


def step_by_step(layout: Layout, sampler: Autoregressive, x: Tensor) -> Tensor:
    """Return what steps give at every position, `(batch, positions, width)`, in float64."""
    step = TriangularStep(layout, torch.float64)
    (axis,) = sampler.position_axes
    states, found = step.first(len(x)), []
    for time in range(layout.steps):
        tables = [table[time] for table in step.tables()]
        result, states = step.read(len(x), states, tables)
        found.append(result + step.get_buffer("constant")[time])
        states = step.add(x.select(axis, time).reshape(len(x), -1), states, tables)
    return torch.stack(found, 1)


def _compare(expected: Tensor, found: Tensor) -> None:
    limit = TOLERANCE * max(1.0, float(expected.abs().max()))
    off = (found - expected).abs().amax((0, 2))
    if not bool((off <= limit).all()):
        raise ExportError(
            f"the steps differ from the whole pass by {float(off.max()):.2g}, the limit is "
            f"{limit:.2g}",
            where=f"position {int((~(off <= limit)).nonzero()[0])} of {len(off)}",
            next_step="report the network: a rule of toolkit/capture/causal is wrong for it",
        )
