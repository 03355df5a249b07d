"""Cache of two levels: attention over earlier chunks, which are only read, and the current one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.capture.causal.choice import controls_of, split
from toolkit.capture.causal.derive import Derived, derive
from toolkit.capture.causal.network import laid_out
from toolkit.capture.causal.prove import holds_at_other_lengths, prove
from toolkit.capture.causal.walk import chunked
from toolkit.core.entry import Autoregressive
from toolkit.core.errors import ExportError
from toolkit.core.protocols import Scheduled
from toolkit.schedules._loop import by_chunk, parts, scanned
from toolkit.schedules._step import StepModule, precision_of
from toolkit.schedules.scan import ScanSampler

# A loop copies what it carries at every step; a chunk copies the whole cache once.
CHUNK = 32


class CacheSampler(ScanSampler):
    """Draw sequences from noise: a loop over chunks that holds a loop over positions.

    Arguments:
        derived: The network's step by chunks.
        sampler: What is sampled.
        dtype: The network's precision.
    """

    hidden: Tensor

    def __init__(self, derived: Derived, sampler: Autoregressive, dtype: torch.dtype) -> None:
        super().__init__(derived, sampler, dtype)
        self.chunk, self.caches = derived.chunk, derived.caches
        self.length = chunked(derived.length, derived.chunk)
        self.leads, self.rows = derived.leads, len(set(derived.leads))
        self.register_buffer("steps", torch.arange(self.length))
        self.register_buffer("hidden", torch.full((CHUNK, CHUNK), -torch.inf, dtype=dtype).triu(1))

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
        newest = [self.start.expand(batch, *self.start.shape[1:]).clone()]
        small = [state for number, state in enumerate(states) if number not in self.caches]
        old = [self._blank(states[number], axis) for number, axis in self.caches.items()]
        # Of numbers that are not negative: ONNX divides towards zero, Python downwards.
        count = (length + self.chunk - 1) // self.chunk
        inputs = [
            by_chunk(self.steps, count, self.chunk, self.length),
            *(
                by_chunk(value, count, self.chunk, self.length)
                for value in (noise, *prefix, *tables)
            ),
        ]
        fixed = [self.hidden, *controls, *wholes, *self.draw.constants()]
        _, (levels,) = scanned(self._chunk, [*newest, *small, *old], inputs, fixed)
        # Not a view and a slice: they ask more of a tracer of sizes than it can prove.
        places = torch.arange(length, device=self.steps.device)
        return laid_out(self.sampler, levels[places // self.chunk, places % self.chunk])

    def _chunk(self, states: Any, entries: Any, fixed: Any) -> tuple[Any, Any]:
        """Draw the positions of one chunk, then put its columns into the caches."""
        times, *rest = entries
        carried, old = parts(states, [len(states) - len(self.caches)])
        recent = [cache.new_zeros(cache.shape[0], self.chunk, cache.shape[2]) for cache in old]
        device = times.device
        sizes = [old[self.leads.index(lead)].shape[0] for lead in range(self.rows)]
        rows = [torch.arange(size, device=device) for size in sizes]
        later, *fixed = fixed
        shown = later.new_zeros(())
        unfilled = later.new_full((), -torch.inf)
        hidden = torch.where(torch.arange(self.length, device=device) < times[0], shown, unfilled)
        slots = torch.arange(self.chunk, device=device).unsqueeze(1)
        slots_of = [slots.expand(self.chunk, row.shape[0]).clone() for row in rows]
        last, (levels,) = scanned(
            self._position,
            [*carried, *recent],
            [later, *slots_of, times, *rest],
            [hidden, *rows, *old, *fixed],
        )
        carried, columns = parts(last, [len(carried)])
        here = [times.expand(row.shape[0], self.chunk) for row in rows]
        places = [
            (row.unsqueeze(1).expand_as(now), now) for row, now in zip(rows, here, strict=True)
        ]
        filled = [
            cache.index_put(places[lead], new)
            for cache, new, lead in zip(old, columns, self.leads, strict=True)
        ]
        return [*carried, *filled], (levels,)

    def _position(self, states: Any, entries: Any, fixed: Any) -> tuple[Any, Any]:
        """Draw one position."""
        recent, *rest = entries
        slots, (time, here, *rest) = parts(rest, [self.rows])
        prefix, now = parts(rest, [int(self.sampler.prefix)])
        sizes = [1, self.rows, len(self.caches), len(controls_of(self.sampler)), self.wholes]
        hidden, rows, old, controls, wholes, constants = parts(fixed, sizes)
        places = [place for pair in zip(rows, slots, strict=True) for place in pair]
        given = self._joined(states)
        chunk = (*hidden, recent, *places, *old)
        taken = (here, *prefix, *controls, states[0], time, *given, *now, *wholes, *chunk)
        level, x, *following = self.draw.run(here.shape[0], taken, constants)
        small = [state for number, state in enumerate(following) if number not in self.caches]
        return (x, *small, *(following[number] for number in self.caches)), (level,)

    def _joined(self, states: Sequence[Tensor]) -> list[Tensor]:
        """Return the states in the step's order: they are carried with the caches last."""
        count = len(states) - 1
        small = iter(states[1 : 1 + count - len(self.caches)])
        recent = iter(states[1 + count - len(self.caches) :])
        return [next(recent if number in self.caches else small) for number in range(count)]

    def _blank(self, state: Tensor, axis: int) -> Tensor:
        """Return an empty cache, `(entries before time, positions, entries behind)`."""
        before, behind = (math.prod(part) for part in (state.shape[:axis], state.shape[axis + 1 :]))
        return state.new_zeros(before, self.length, behind)


def schedule(model: nn.Module, sampler: Autoregressive) -> Scheduled:
    """Return the sampler of a causal network with attention, by chunks of positions.

    Raises:
        ExportError: The network is outside the class, has no attention, or what was derived is
            not proved equal.
    """
    if sampler.order != "time":
        raise ExportError(
            "a cache of two levels runs along time",
            where=f"order {sampler.order!r}",
            next_step="rows or wavefront lay out pictures",
        )
    (axis,) = sampler.position_axes
    if sampler.input.shape[axis] <= CHUNK:
        raise ExportError(
            f"a cache of two levels needs more than the {CHUNK} positions of one chunk",
            where=f"{sampler.input.shape[axis]} positions",
            next_step="scan lays out short sequences",
        )
    derived = derive(model, sampler, chunk=CHUNK)
    prove(model, sampler, derived)
    dtype = precision_of(model)
    step = StepModule(derived, sampler, dtype)
    # Two chunks at least: a tracer of sizes takes one for a case of its own.
    lengths = (CHUNK + 1, derived.length) if holds_at_other_lengths(model, sampler) else None
    return Scheduled(
        CacheSampler(derived, sampler, dtype), step, step.inputs(), step.outputs(), lengths
    )
