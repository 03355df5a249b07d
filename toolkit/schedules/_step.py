"""One position of a sampler as an entry: states in and out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from toolkit.capture.causal.derive import Derived, contexts, resized
from toolkit.capture.causal.network import any_samples, network_input
from toolkit.core.entry import Autoregressive, Input

BATCH = 2
# Positions after which states serve as examples.
STEPS = 5


class StepModule(nn.Module):
    """Compute the logits of one position and the next states.

    All states are zero before the first position: those that start otherwise are filled in when
    the time is zero.

    Arguments:
        derived: The network's step.
        sampler: What is sampled.
        dtype: The network's precision.
    """

    def __init__(self, derived: Derived, sampler: Autoregressive, dtype: torch.dtype) -> None:
        super().__init__()
        self.sampler, self.length = sampler, derived.length
        self.tables, self.wholes = derived.tables, derived.wholes
        self.prologue, self.step = derived.prologue.to(dtype), derived.step.to(dtype)
        with torch.no_grad():
            first, other = (self._first(batch) for batch in (BATCH, BATCH + 1))
        self.batched = [_batched(*pair) for pair in zip(first, other, strict=True)]
        self.filled = [bool(state.any()) for state in first]

    def forward(self, x: Tensor, time: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        """Return logits `(batch, levels)` and the next states.

        Arguments:
            x: The input at this position: the network's without its axis of time.
            time: The position, an int64 scalar.
            rest: The conditioning inputs, then the states.
        """
        batch, count = x.shape[0], len(self.sampler.context)
        known = self.prologue(batch, *rest[:count])
        tables, left = known[: self.tables], known[self.tables :]
        wholes, first = left[: self.wholes], left[self.wholes :]
        states = []
        for state, start, (axis, per), filled in zip(
            rest[count:], first, self.batched, self.filled, strict=True
        ):
            held = state.flatten(axis, axis + 1) if per > 1 else state
            states.append(torch.where(time == 0, start, held) if filled else held)
        entries = [table.index_select(0, time.reshape(1)).squeeze(0) for table in tables]
        logits, *following = self.step(batch, x, time, *states, *entries, *wholes)
        kept = [
            _by_item(state, batch, *place)
            for state, place in zip(following, self.batched, strict=True)
        ]
        return (logits, *kept)

    def zeros(self, batch: int) -> list[Tensor]:
        """Return the states before the first position."""
        return [
            _by_item(torch.zeros_like(state), batch, *place)
            for state, place in zip(self._first(batch), self.batched, strict=True)
        ]

    def inputs(self) -> list[Input]:
        """Return the inputs with examples: column, time, context, and states after some steps."""
        item, context = self.sampler.input, contexts(self.sampler, BATCH)
        (axis,) = self.sampler.position_axes
        like = resized(item, BATCH)
        levels = any_samples(self.sampler, self.length, BATCH)
        columns = network_input(self.sampler, levels, like).movedim(axis, 0)
        states, now = self.zeros(BATCH), min(STEPS, self.length - 1)
        with torch.no_grad():
            for time in range(now):
                _, *states = self(columns[time], torch.tensor(time), *context, *states)
        dims = tuple("batch" if i == 0 else None for i in range(columns.ndim - 1))
        x = Input(item.name, columns[now].clone(), dims, item.kind, low=item.low, high=item.high)
        time_input = Input("time", torch.tensor(now), low=0, high=self.length - 1)
        return [x, time_input, *self.sampler.context, *map(self._state, range(len(states)), states)]

    def outputs(self) -> list[str]:
        """Return the names of the outputs."""
        return ["logits", *(f"next_state_{number}" for number in range(len(self.batched)))]

    def _state(self, number: int, value: Tensor) -> Input:
        place, _ = self.batched[number]
        dims = tuple("batch" if i == place else None for i in range(value.ndim))
        return Input(f"state_{number}", value, dims, kind="state")

    def _first(self, batch: int) -> tuple[Tensor, ...]:
        known: tuple[Tensor, ...] = self.prologue(batch, *contexts(self.sampler, batch))
        return known[self.tables + self.wholes :]


def precision_of(model: nn.Module) -> torch.dtype:
    """Return the element type of a model's weights."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


def _batched(one: Tensor, other: Tensor) -> tuple[int, int]:
    """Return the axis that grows with the batch and its entries per item."""
    grows = [axis for axis in range(one.ndim) if one.shape[axis] != other.shape[axis]]
    return grows[0], one.shape[grows[0]] // BATCH


def _by_item(state: Tensor, batch: int, axis: int, per: int) -> Tensor:
    """Return a state with one axis for the batch and, where there are many, an item's entries."""
    if per == 1:
        return state
    return state.reshape(*state.shape[:axis], batch, per, *state.shape[axis + 1 :])
