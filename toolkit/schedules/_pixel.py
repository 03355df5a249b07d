"""One pixel of a sampler as an entry: states in and out."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from toolkit.capture.causal.derive import contexts, resized
from toolkit.capture.causal.lane import Refusal
from toolkit.capture.causal.network import any_samples, network_input
from toolkit.capture.causal.prove import prove_wave
from toolkit.capture.causal.wave.derive import DerivedWave, derive_wave, rows_of
from toolkit.core.entry import Autoregressive, Input
from toolkit.core.protocols import Scheduled
from toolkit.schedules._step import BATCH, STEPS, precision_of


class PixelStep(nn.Module):
    """Compute the logits of one pixel and the next states, in raster order.

    All states are zero before the first pixel.

    Arguments:
        derived: The network's step along a wavefront of a single row.
        sampler: What is sampled.
        dtype: The network's precision.
    """

    reads: Tensor

    def __init__(self, derived: DerivedWave, sampler: Autoregressive, dtype: torch.dtype) -> None:
        super().__init__()
        self.sampler, self.known = sampler, derived.known
        self.prologue, self.step = derived.prologue.to(dtype), derived.step.to(dtype)
        self.steps, self.places = derived.wave.steps, derived.places
        self.sizes = [table.shape[1] for table in derived.reads]
        self.register_buffer("reads", torch.cat(list(derived.reads), 1))

    def forward(self, x: Tensor, time: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        """Return logits `(batch, levels)`, of all colours side by side, and the next states.

        Arguments:
            x: The pixel `(batch, …)`; colours whose logits are still to come are not read.
            time: Its position, an int64 scalar.
            rest: The conditioning inputs, then the states.
        """
        batch, count = x.shape[0], len(self.sampler.context)
        known = self.prologue(batch, *rest[:count])
        place = time.reshape(1)
        reads = torch.split(self.reads.index_select(0, place).squeeze(0), self.sizes)
        rows = [rows_of(1 + time % (count - 1), count, batch) for count in self.places]
        states = [state.flatten(0, 1) for state in rest[count:]]
        tables, wholes = known[: self.known[0]], known[self.known[0] : sum(self.known)]
        now = [table.index_select(0, place).squeeze(0) for table in tables]
        logits, *following = self.step(batch, x, *reads, *rows, *states, *now, *wholes)
        return (logits, *self._by_item(following))

    def inputs(self) -> list[Input]:
        """Return the inputs with examples: pixel, time, context, and states after some steps."""
        item, context = self.sampler.input, contexts(self.sampler, BATCH)
        axes, like = self.sampler.position_axes, resized(item, BATCH)
        drawn = any_samples(self.sampler, self.steps * self.sampler.colours, BATCH)
        picture = network_input(self.sampler, drawn, like)
        pixels = picture.movedim(axes, (0, 1)).flatten(0, 1)
        states, now = self.zeros(BATCH), min(STEPS, self.steps - 1)
        with torch.no_grad():
            for time in range(now):
                _, *states = self(pixels[time], torch.tensor(time), *context, *states)
        dims = ("batch", *[None] * (pixels.ndim - 2))
        x = Input(item.name, pixels[now].clone(), dims, item.kind, low=item.low, high=item.high)
        place = Input("time", torch.tensor(now), low=0, high=self.steps - 1)
        held = [
            Input(f"state_{number}", state, ("batch", None, None), kind="state")
            for number, state in enumerate(states)
        ]
        return [x, place, *self.sampler.context, *held]

    def zeros(self, batch: int) -> list[Tensor]:
        """Return the states before the first pixel."""
        known = self.prologue(batch, *contexts(self.sampler, batch))
        return self._by_item(torch.zeros_like(state) for state in known[sum(self.known) :])

    def _by_item(self, states: Iterable[Tensor]) -> list[Tensor]:
        """Return histories as states of each item, `(batch, places, …)`."""
        return [
            state.reshape(-1, count, state.shape[1])
            for state, count in zip(states, self.places, strict=True)
        ]

    def outputs(self) -> list[str]:
        """Return the names of the outputs."""
        return ["logits", *(f"next_state_{number}" for number in range(len(self.places)))]


def pixel_step(model: nn.Module, sampler: Autoregressive) -> PixelStep | None:
    """Return the step of a causal network over pictures; nothing where a pixel takes several.

    That is so where an operator has no rule of wavefronts, and where what a network sees of the
    rows above looks so far right that it is not complete when a row begins.

    Raises:
        ExportError: What was derived is not proved equal.
    """
    height, width = (sampler.input.shape[axis] for axis in sampler.position_axes)
    try:
        derived = derive_wave(model, sampler, least=width)
    except Refusal:
        return None
    wave = derived.wave
    if (wave.skew, wave.slots, wave.first, wave.steps) != (width, 1, 0, height * width):
        return None
    prove_wave(model, sampler, derived)
    return PixelStep(derived, sampler, precision_of(model))


def with_step(generate: nn.Module, step: PixelStep | None) -> Scheduled:
    """Return a layout with its step, if it has one."""
    if step is None:
        return Scheduled(generate)
    return Scheduled(generate, step, step.inputs(), step.outputs())
