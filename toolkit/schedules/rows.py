"""Rows: the derived step of a network over pictures, pixel by pixel inside row by row."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from toolkit.capture.causal.choice import controls_of, split
from toolkit.capture.causal.network import laid_out
from toolkit.capture.causal.prove import prove_rows
from toolkit.capture.causal.raster import DerivedRows, derive_rows
from toolkit.core.entry import Autoregressive
from toolkit.core.errors import ExportError
from toolkit.core.protocols import Scheduled
from toolkit.schedules._loop import parts, scanned
from toolkit.schedules._pixel import pixel_step, with_step
from toolkit.schedules._step import precision_of


class RowSampler(nn.Module):
    """Draw pictures from noise: a loop over rows that holds a loop over pixels.

    What a row owes to the rows above is computed for all its pixels at once.

    Arguments:
        derived: The network's step.
        sampler: What is sampled.
        dtype: The network's precision.
    """

    down: Tensor
    across: Tensor

    def __init__(self, derived: DerivedRows, sampler: Autoregressive, dtype: torch.dtype) -> None:
        super().__init__()
        self.sampler = sampler
        self.rows, self.pixels, self.states = derived.rows, derived.pixels, derived.states
        self.prologue, self.before = derived.prologue.to(dtype), derived.before.to(dtype)
        self.draw, self.after = derived.draw.to(dtype), derived.after.to(dtype)
        self.register_buffer("down", torch.arange(derived.height))
        self.register_buffer("across", torch.arange(derived.width))

    def forward(self, noise: Tensor, *given: Tensor) -> Tensor:
        """Draw one picture per item of the batch.

        Arguments:
            noise: Standard Gumbel noise `(height * width, batch, levels)`.
            given: The options, then the conditioning inputs.

        Returns:
            Categories, int64, in the layout of the network's input where that is one number per
            pixel, else `(batch, height, width)`.
        """
        batch = noise.shape[1]
        prefix, controls, context = split(self.sampler, given)
        known = self.prologue(batch, *context)
        tables, wholes, states = parts(known, self.rows)
        before, draw = self.before.constants(), self.draw.constants()
        sizes = [len(controls), len(wholes), len(before), len(draw)]

        def row(states: Any, entries: Any, fixed: Any) -> tuple[Any, Any]:
            here, number, across, *now = entries
            prefix, now = now[: self.sampler.prefix], now[self.sampler.prefix :]
            controls, wholes, before, draw, after = parts(fixed, sizes)
            batch = here.shape[1]
            given = (number, *states, *now, *wholes)
            columns, values, first = parts(self.before.run(batch, given, before), self.pixels)

            fixed = [*controls, *values, *draw]
            _, (levels, x, *stacked) = scanned(
                self._pixel, first, [here, across, *prefix, *columns], fixed
            )
            return self.after.run(batch, (x, *stacked, *given), after), (levels,)

        height, width = len(self.down), len(self.across)
        by_row = noise.reshape(height, width, *noise.shape[1:])
        rows = [given.reshape(height, width, *given.shape[1:]) for given in prefix]
        across = self.across.expand(height, width)
        _, (levels,) = scanned(
            row,
            states,
            [by_row, self.down, across, *rows, *tables],
            [*controls, *wholes, *before, *draw, *self.after.constants()],
        )
        return laid_out(self.sampler, levels.flatten(0, 1))

    def _pixel(self, states: Any, entries: Any, fixed: Any) -> tuple[Any, Any]:
        """Draw one pixel; its first result is the category, the second the pixel itself."""
        here, number, *now = entries
        prefix, now = now[: self.sampler.prefix], now[self.sampler.prefix :]
        controls = len(controls_of(self.sampler))
        options, values, draw = parts(fixed, [controls, self.pixels[1]])
        # Of the newest pixel a step needs the shape alone.
        given = (here, *prefix, *options, here, number, *states, *now, *values)
        level, x, *rest = self.draw.run(here.shape[0], given, draw)
        count = self.states[1]
        return rest[:count], (level, x, *rest[count:])


def schedule(model: nn.Module, sampler: Autoregressive) -> Scheduled:
    """Return the sampler of any causal network over pictures, pixel by pixel, row by row.

    Raises:
        ExportError: The network is outside the class, or what was derived is not proved equal.
    """
    if sampler.order != "raster":
        raise ExportError(
            "rows hold pictures",
            where=f"order {sampler.order!r}",
            next_step="scan lays out sequences",
        )
    if sampler.channel_order is not None:
        raise ExportError(
            "rows draw one category a pixel",
            where=f"channel_order {list(sampler.channel_order)}",
            next_step="wavefront draws colours one after the other",
        )
    derived = derive_rows(model, sampler)
    prove_rows(model, sampler, derived)
    dtype = precision_of(model)
    step = pixel_step(model, sampler) if sampler.predicts == "this" else None
    return with_step(RowSampler(derived, sampler, dtype), step)
