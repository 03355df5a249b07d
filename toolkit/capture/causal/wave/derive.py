"""From a declared sampler of pictures to the traced step of its wavefront."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.capture.causal.body import BATCHES, Body, body
from toolkit.capture.causal.colours import draw_pixel, pixel_choices
from toolkit.capture.causal.derive import resized
from toolkit.capture.causal.gates import gates_apart
from toolkit.capture.causal.network import Network
from toolkit.capture.causal.program import blank, capture, double_by_default
from toolkit.capture.causal.wave.field import Plane
from toolkit.capture.causal.wave.geometry import Place, Wave
from toolkit.capture.causal.wave.layout import Layout, Logits
from toolkit.capture.causal.wave.rules import rules
from toolkit.core.entry import Autoregressive

Made = tuple[Callable[..., Any], Sequence[Tensor]]


@dataclass(frozen=True, slots=True)
class DerivedWave:
    """The step of a network over pictures along a wavefront, in pieces with a free batch.

    *Items* are the slots of a step for each item of the batch, in this order.

    Arguments:
        wave: The steps.
        place: When pixels are drawn, and which there are.
        reads: The entries of the histories that each step reads, `(steps, …)` each.
        writes: Per history the place that each step writes, `(steps,)`.
        places: Per history how many places it has.
        prologue: Context to known values of each step, known values, and first histories.
        step: Pixels, then what `reads` holds for the step, what `rows` gives for it, histories,
            known values: to logits and the next histories.
        draw: The same with noise and options first: to the categories in the place of logits.
        known: How many known values of each step and how many others there are.
        pixel: One pixel at one item.
        share: What it costs, of what pixel by pixel inside row by row costs.
    """

    wave: Wave
    place: Place
    reads: Sequence[Tensor]
    writes: Sequence[Tensor]
    places: tuple[int, ...]
    prologue: Body
    step: Body
    draw: Body
    known: tuple[int, int]
    pixel: Tensor
    share: float

    def rows(self, batch: int) -> list[Tensor]:
        """Return per history the rows that each step writes, `(steps, batch)`."""
        return [rows_of(*pair, batch) for pair in zip(self.writes, self.places, strict=True)]


def rows_of(places: Tensor, count: int, batch: int) -> Tensor:
    """Return which rows of a history hold a place of each item, `(…, batch)`.

    Arguments:
        places: The places, `(…)`.
        count: How many places the history has.
        batch: The batch.
    """
    return places.unsqueeze(-1) + torch.arange(batch, device=places.device) * count


def derive_wave(model: nn.Module, sampler: Autoregressive, *, least: int = 1) -> DerivedWave:
    """Derive the step of a causal network over pictures along a wavefront.

    Arguments:
        model: The model in evaluation mode; it is left as it is.
        sampler: What is sampled, and how the network is called.
        least: Least number of steps by which a row runs behind the row above.

    Raises:
        Refusal: The network is not causal, or holds an operator that no rule follows.
        UsageError: The declaration does not fit the network.
    """
    network = Network(model, sampler).eval()
    down, across = sampler.position_axes

    def laid_out(batch: int) -> Layout:
        inputs = [resized(item, batch) for item in (sampler.input, *sampler.context)]
        program = gates_apart(capture(network, inputs))
        with double_by_default(), torch.no_grad():
            plane = Plane(program, (down, across), rules)
            return Layout(plane, least=least, own=sampler.channel_order is not None)

    made = {batch: laid_out(batch) for batch in BATCHES}
    one = made[BATCHES[0]]
    reads = one.reads()

    def prologue(batch: int) -> Made:
        examples = [blank(node) for node in made[batch].plane.program.inputs[1:]]
        return lambda *context: made[batch].known(batch, *context), examples

    def example(batch: int) -> list[Tensor]:
        layout = made[batch]
        first = prologue(batch)
        known = first[0](*first[1])
        count = layout.tables + layout.wholes
        values = [*(table[0].clone() for table in known[: layout.tables])]
        values += known[layout.tables : count]
        shape = (batch * layout.wave.slots, *layout.plane.source.rest)
        source = blank(layout.plane.source.node)
        pixels = torch.zeros(shape, dtype=source.dtype)
        read = [table[0].clone() for table in reads]
        rows = [
            rows_of(torch.tensor(1), history.places, batch).clone() for history in layout.histories
        ]
        return [pixels, *read, *rows, *known[count:], *values]

    def step(batch: int) -> Made:
        def forced(pixels: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
            def choose(logits: Logits, given: Tensor) -> tuple[Tensor, Tensor]:
                return logits(given), given

            return made[batch].step(choose, pixels, *rest)

        return forced, example(batch)

    def draw(batch: int) -> Made:
        choices = pixel_choices(sampler, batch * one.wave.slots)
        count = len(choices)

        def drawn(*given: Tensor) -> tuple[Tensor, ...]:
            def choose(logits: Logits, pixels: Tensor) -> tuple[Tensor, Tensor]:
                return draw_pixel(sampler, given[:count], logits, pixels)

            return made[batch].step(choose, *given[count:])

        return drawn, [*choices, *example(batch)]

    with double_by_default():
        return DerivedWave(
            wave=one.wave,
            place=one.places[one.plane.source],
            reads=reads,
            writes=one.writes(),
            places=tuple(history.places for history in one.histories),
            prologue=body(prologue, "the prologue"),
            step=body(step, "the step"),
            draw=body(draw, "the sampler's step"),
            known=(one.tables, one.wholes),
            pixel=example(BATCHES[0])[0][:1],
            share=one.share(),
        )
