"""Plain scan: the derived step of a causal network, one position after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.capture.causal.body import Body
from toolkit.capture.causal.choice import split
from toolkit.capture.causal.derive import Derived, derive
from toolkit.capture.causal.network import laid_out, start_column
from toolkit.capture.causal.prove import holds_at_other_lengths, prove
from toolkit.core.entry import Autoregressive
from toolkit.core.errors import ExportError
from toolkit.core.protocols import Scheduled
from toolkit.schedules._loop import parts, scanned
from toolkit.schedules._step import StepModule, precision_of


class ScanSampler(nn.Module):
    """Draw sequences from noise, one position a step.

    Arguments:
        derived: The network's step.
        sampler: What is sampled.
        dtype: The network's precision.
    """

    start: Tensor
    steps: Tensor

    def __init__(self, derived: Derived, sampler: Autoregressive, dtype: torch.dtype) -> None:
        super().__init__()
        self.sampler, self.predicts = sampler, derived.predicts
        self.tables, self.wholes = derived.tables, derived.wholes
        self.prologue: Body = derived.prologue.to(dtype)
        self.draw: Body = derived.draw.to(dtype)
        column = derived.column
        start = start_column(sampler, column.to(_own(sampler)))
        self.register_buffer("start", start)
        self.register_buffer("steps", torch.arange(derived.length))

    def forward(self, noise: Tensor, *given: Tensor) -> Tensor:
        """Draw one sequence per item of the batch.

        Arguments:
            noise: Standard Gumbel noise `(time, batch, levels)`.
            given: The options, then the conditioning inputs.

        Returns:
            Categories, int64, in the layout of the network's input where that is one number per
            position, else `(batch, time)`.
        """
        length, batch = noise.shape[:2]
        prefix, controls, context = split(self.sampler, given)
        tables, wholes, states = self._known(batch, context)
        # Logits for their own position do not read what was drawn before by themselves.
        first = [self.start.expand(batch, *self.start.shape[1:]).clone()]
        newest = first if self.predicts == "next" else []
        prefixes, sizes = len(prefix), [len(controls), len(wholes)]

        def step(carried: Any, entries: Any, fixed: Any) -> tuple[Any, Any]:
            here, time, *rest = entries
            prefix, now = rest[:prefixes], rest[prefixes:]
            controls, wholes, constants = parts(fixed, sizes)
            x = carried[0] if newest else here
            states = carried[len(newest) :]
            taken = (here, *prefix, *controls, x, time, *states, *now, *wholes)
            level, x, *states = self.draw.run(here.shape[0], taken, constants)
            return (*([x] if newest else []), *states), (level,)

        now = [table[:length] for table in tables]
        inputs = [noise, self.steps[:length], *prefix, *now]
        fixed = [*controls, *wholes, *self.draw.constants()]
        _, (levels,) = scanned(step, [*newest, *states], inputs, fixed)
        return laid_out(self.sampler, levels)

    def _known(self, batch: int, context: Sequence[Tensor]) -> list[Sequence[Tensor]]:
        """Return known sequences, known values and first states."""
        return parts(self.prologue(batch, *context), [self.tables, self.wholes])


def _own(sampler: Autoregressive) -> torch.dtype:
    """Return the element type of the network's input."""
    dtype: torch.dtype = getattr(torch, sampler.input.dtype)
    return dtype


def schedule(model: nn.Module, sampler: Autoregressive) -> Scheduled:
    """Return the sampler of any causal network along time as one scan over its derived step.

    Raises:
        ExportError: The network is outside the class, or what was derived is not proved equal.
    """
    if sampler.order != "time":
        raise ExportError(
            "a plain scan runs along time",
            where=f"order {sampler.order!r}",
            next_step="rows or wavefront lay out pictures",
        )
    derived = derive(model, sampler)
    prove(model, sampler, derived)
    dtype = precision_of(model)
    free = holds_at_other_lengths(model, sampler)
    lengths = (1, derived.length) if free else None
    step = StepModule(derived, sampler, dtype)
    return Scheduled(
        ScanSampler(derived, sampler, dtype), step, step.inputs(), step.outputs(), lengths
    )
