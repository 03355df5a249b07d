"""Wavefront: several rows at once, each a fixed number of steps behind the row above."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from toolkit.capture.causal.choice import controls_of, split
from toolkit.capture.causal.network import laid_out
from toolkit.capture.causal.prove import prove_wave
from toolkit.capture.causal.wave.derive import DerivedWave, derive_wave, rows_of
from toolkit.core.entry import Autoregressive
from toolkit.core.errors import ExportError
from toolkit.core.protocols import Scheduled
from toolkit.schedules._loop import parts, rows_at, scanned
from toolkit.schedules._pixel import pixel_step, with_step
from toolkit.schedules._step import precision_of

# The estimate is as rough as that.
LARGEST_SHARE = 0.9


class WaveSampler(nn.Module):
    """Draw pictures from noise, computing every layer once per pixel and several rows at once.

    Step t computes pixel (y, t - skew * y) of each row y that it meets. The skew is the least at
    which every tap but the current one was computed by an earlier step. What earlier steps gave to
    the layers is carried along, and the taps of all layers are read from it by one gather, which
    finds zero outside the picture.

    Arguments:
        derived: The network's step.
        sampler: What is sampled.
        dtype: The network's precision.
    """

    pixels: Tensor
    places: Tensor

    def __init__(self, derived: DerivedWave, sampler: Autoregressive, dtype: torch.dtype) -> None:
        super().__init__()
        self.sampler, self.slots, self.known = sampler, derived.wave.slots, derived.known
        self.colours = sampler.colours
        self.prologue, self.draw = derived.prologue.to(dtype), derived.draw.to(dtype)
        self.register_buffer("pixels", derived.wave.entries(derived.place, derived.place.rect))
        self.register_buffer("places", derived.wave.places(derived.place))
        self.rest, kind = tuple(derived.pixel.shape[1:]), derived.pixel.dtype
        self.kind = dtype if kind.is_floating_point else kind
        self.places_of, self.reads = derived.places, len(derived.reads)
        for number, reads in enumerate(derived.reads):
            self.register_buffer(f"reads_{number}", reads)
        for number, writes in enumerate(derived.writes):
            self.register_buffer(f"writes_{number}", writes)

    def forward(self, noise: Tensor, *given: Tensor) -> Tensor:
        """Draw one picture per item of the batch.

        Arguments:
            noise: Standard Gumbel noise `(height * width * colours, batch, levels)`; a pixel's
                colours come one after the other.
            given: The options, then the conditioning inputs.

        Returns:
            Categories, int64, in the layout of the network's input where that is one number per
            pixel and colour, else `(batch, height, width)`.
        """
        batch = noise.shape[1]
        prefix, controls, context = split(self.sampler, given)
        tables, wholes, first = parts(self.prologue(batch, *context), list(self.known))
        reads = [self.get_buffer(f"reads_{number}") for number in range(self.reads)]
        rows = [
            rows_of(self.get_buffer(f"writes_{number}"), count, batch)
            for number, count in enumerate(self.places_of)
        ]
        controls = [control.repeat_interleave(self.slots, 0) for control in controls]
        inputs = [self._order(batch), *reads, *rows, *tables]
        everything = [item.flatten(0, 1) for item in (noise, *prefix)]
        fixed = [*everything, *controls, *wholes, *self.draw.constants()]
        _, (levels,) = scanned(self._wave, first, inputs, fixed)
        levels = levels.reshape(len(self.pixels), batch, self.slots, *levels.shape[2:])
        levels = levels.transpose(1, 2).flatten(0, 1).index_select(0, self.places)
        if self.colours > 1:
            levels = levels.transpose(1, 2).flatten(0, 1)
        return laid_out(self.sampler, levels)

    def _wave(self, states: Any, entries: Any, fixed: Any) -> tuple[Any, Any]:
        """Draw the pixels of one step."""
        count = len(self.places_of)
        (order,), reads, rows, now = parts(entries, [1, self.reads, count])
        sizes = [1 + int(self.sampler.prefix), len(controls_of(self.sampler)), self.known[1]]
        given, controls, wholes, constants = parts(fixed, sizes)
        # A step at a time: all positions in another order would be as large as the noise again.
        own = [self._taken(item, order) for item in given]
        kind = own[0].dtype if self.kind.is_floating_point else self.kind
        pixels = own[0].new_zeros(own[0].shape[-2], *self.rest, dtype=kind)
        taken = (*own, *controls, pixels, *reads, *rows, *states, *now, *wholes)
        level, *following = self.draw.run(rows[0].shape[0], taken, constants)
        return following, (level,)

    def _order(self, batch: int) -> Tensor:
        """Return the rows of `(positions * batch, …)` that each step takes, `(steps, items)`.

        Of colours all rows of the first come first.
        """
        device = self.pixels.device
        items = torch.arange(batch, device=device).reshape(1, 1, -1, 1)
        colours = torch.arange(self.colours, device=device).reshape(1, -1, 1, 1)
        places = (self.pixels[:, None, None] * self.colours + colours) * batch + items
        return places.flatten(1)

    def _taken(self, given: Tensor, order: Tensor) -> Tensor:
        """Return what a step takes, `(items, …)`, or `(colours, items, …)`."""
        found = rows_at(given, order)
        if self.colours == 1:
            return found
        return found.reshape(self.colours, -1, *found.shape[1:])


def schedule(model: nn.Module, sampler: Autoregressive) -> Scheduled:
    """Return the sampler of any causal network over pictures as one loop over wavefronts.

    Raises:
        ExportError: The network is outside the class, gains too little, or what was derived is
            not proved equal.
    """
    if sampler.order != "raster" or sampler.predicts != "this":
        raise ExportError(
            "a wavefront runs over pictures whose logits are for their own pixel",
            where=f"order {sampler.order!r}, predicts {sampler.predicts!r}",
            next_step="scan lays out sequences, rows any pictures",
        )
    derived = derive_wave(model, sampler)
    if derived.share > LARGEST_SHARE and sampler.channel_order is None:
        raise ExportError(
            f"a wavefront costs {derived.share:.0%} of rows, by its operators and weights, and "
            f"pays below {LARGEST_SHARE:.0%}",
            where=f"a row must run {derived.wave.skew} steps behind the row above",
            next_step="rows lays out such pictures",
        )
    prove_wave(model, sampler, derived)
    generate = WaveSampler(derived, sampler, precision_of(model))
    return with_step(generate, pixel_step(model, sampler))
