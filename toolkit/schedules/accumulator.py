"""Accumulator: each input of a vector is added, once, to the sums of all units that read it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.capture.causal.choice import choose, split
from toolkit.capture.causal.derive import resized
from toolkit.capture.causal.network import embedded, laid_out, network_input
from toolkit.capture.causal.triangular.layout import Layout
from toolkit.capture.causal.triangular.network import TriangularStep, triangular
from toolkit.capture.causal.triangular.prove import prove_steps
from toolkit.core.entry import Autoregressive, Input
from toolkit.core.errors import ExportError
from toolkit.core.protocols import Scheduled
from toolkit.schedules._loop import parts, scanned
from toolkit.schedules._step import BATCH, STEPS, precision_of


class AccumulatorSampler(nn.Module):
    """Draw vectors from noise, one position a step.

    Arguments:
        layout: The steps: of two levels' difference, where there are two and no controls.
        sampler: What is sampled.
        dtype: The network's precision.
    """

    values: Tensor

    def __init__(self, layout: Layout, sampler: Autoregressive, dtype: torch.dtype) -> None:
        super().__init__()
        self.sampler = sampler
        self.step = TriangularStep(layout, dtype)
        width = layout.blocks[0].width
        like = torch.zeros(sampler.levels, width, dtype=dtype)
        every = torch.arange(sampler.levels)
        self.register_buffer("values", embedded(sampler, every, like))
        self.binary = layout.constant.shape[1] == 1 < sampler.levels
        # Zero and one stand for themselves in most models of bits.
        bits = self.values.flatten().tolist() == [0, 1]
        self.bits = self.binary and bits

    def forward(self, noise: Tensor, *given: Tensor) -> Tensor:
        """Draw one vector per item of the batch.

        Arguments:
            noise: Standard Gumbel noise `(positions, batch, levels)`.
            given: The options.

        Returns:
            Categories, int64, in the layout of the network's input where that is one number per
            position, else `(batch, positions)`.
        """
        batch = noise.shape[1]
        prefix, controls, _ = split(self.sampler, given)
        tables = self.step.tables()
        constant = self.step.get_buffer("constant").unsqueeze(1)
        if self.binary:
            zero, one = noise.unbind(2)
            here = (zero - one).unsqueeze(1) - constant
        else:
            here = noise + constant if not controls else noise
            tables = [*tables, constant] if controls else tables
        first = len(prefix)

        def step(states: Any, entries: Any, fixed: Any) -> tuple[Any, Any]:
            now, *rest = entries
            given, own = parts(rest, [first])
            level, states = self._draw(now, given, fixed, states, own)
            return states, (level,)

        _, (levels,) = scanned(
            step, self.step.first(batch), [here, *prefix, *tables], [self.values, *controls]
        )
        return laid_out(self.sampler, levels.flatten(1).long() if self.binary else levels)

    def _draw(
        self,
        here: Tensor,
        prefix: Sequence[Tensor],
        fixed: Sequence[Tensor],
        states: Sequence[Tensor],
        tables: Sequence[Tensor],
    ) -> tuple[Tensor, list[Tensor]]:
        """Return a position's categories, of two levels `(1, batch)`, and the next states."""
        values, *controls = fixed
        batch = here.shape[1] if self.binary else here.shape[0]
        logits, states = self.step.read(batch, states, tables)
        if self.binary:
            level = here < logits.T
            if prefix:
                level = torch.where(prefix[0] >= 0, prefix[0] > 0, level)
            x = self._embedded(level, values)
        else:
            if controls:
                logits = logits + tables[-1]
            level = choose(self.sampler, logits, here, [*prefix, *controls])
            x = values.index_select(0, level)
        return level, self.step.add(x, states, tables)

    def _embedded(self, level: Tensor, values: Tensor) -> Tensor:
        """Return what truth values `(1, batch)` are fed back as, `(batch, numbers)`."""
        if self.bits:
            return level.to(values.dtype).T
        return torch.where(level.T, values[1:], values[:1])


class AccumulatorStep(nn.Module):
    """Compute the logits of one position and the sums with its input added.

    All states are zero before the first position; what sums start with is filled in there.

    Arguments:
        layout: The steps that give all levels' logits.
        sampler: What is sampled.
        dtype: The network's precision.
    """

    def __init__(self, layout: Layout, sampler: Autoregressive, dtype: torch.dtype) -> None:
        super().__init__()
        self.sampler = sampler
        self.step = TriangularStep(layout, dtype)

    def forward(self, x: Tensor, time: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """Return logits `(batch, levels)` and the next states.

        Arguments:
            x: The input at this position: the network's without its axis of positions.
            time: The position, an int64 scalar.
            states: What earlier positions left, `(batch, size)` each.
        """
        batch = x.shape[0]
        constant, *tables = (
            table.index_select(0, time.reshape(1)).squeeze(0)
            for table in (self.step.get_buffer("constant"), *self.step.tables())
        )
        held = [
            torch.where(time == 0, first, state)
            for first, state in zip(self.step.first(batch), states, strict=True)
        ]
        logits, held = self.step.read(batch, held, tables)
        return (logits + constant, *self.step.add(x.reshape(batch, -1), held, tables))

    def inputs(self) -> list[Input]:
        """Return the inputs with examples: column, time, and states after some steps."""
        item, layout = self.sampler.input, self.step.layout
        (axis,) = self.sampler.position_axes
        draws = torch.Generator().manual_seed(0)
        levels = torch.randint(self.sampler.levels, (layout.steps, BATCH), generator=draws)
        columns = network_input(self.sampler, levels, resized(item, BATCH)).movedim(axis, 0)
        states = [torch.zeros_like(state) for state in self.step.first(BATCH)]
        now = min(STEPS, layout.steps - 1)
        with torch.no_grad():
            for time in range(now):
                _, *states = self(columns[time], torch.tensor(time), *states)
        dims = tuple(None if i else "batch" for i in range(columns.ndim - 1))
        x = Input(item.name, columns[now].clone(), dims, item.kind, low=item.low, high=item.high)
        time_input = Input("time", torch.tensor(now), low=0, high=layout.steps - 1)
        kept = [
            Input(f"state_{number}", state, ("batch", None), kind="state")
            for number, state in enumerate(states)
        ]
        return [x, time_input, *kept]

    def outputs(self) -> list[str]:
        """Return the names of the outputs."""
        count = len(self.step.first(1))
        return ["logits", *(f"next_state_{number}" for number in range(count))]


def schedule(model: nn.Module, sampler: Autoregressive) -> Scheduled:
    """Return the sampler of a network of masked linear layers over a vector.

    Raises:
        ExportError: The network is outside the class, or its steps are not proved equal.
    """
    if sampler.order != "time" or sampler.predicts != "this" or sampler.context:
        raise ExportError(
            "sums run over a vector whose logits are for their own position, without context",
            where=f"order {sampler.order!r}, predicts {sampler.predicts!r}",
            next_step="scan lays out sequences, rows and wavefront pictures",
        )
    if not sampler.input.dtype.startswith(("float", "bfloat")):
        raise ExportError(
            "sums are of numbers, and the network reads categories",
            where=f"input {sampler.input.name!r}, {sampler.input.dtype}",
            next_step="scan lays out sequences of categories",
        )
    layouts = triangular(model, sampler)
    prove_steps(model, sampler, layouts)
    dtype = precision_of(model)
    whole, drawn = layouts
    step = AccumulatorStep(whole, sampler, dtype)
    layout = whole if sampler.controls else drawn
    return Scheduled(
        AccumulatorSampler(layout, sampler, dtype), step, step.inputs(), step.outputs()
    )
