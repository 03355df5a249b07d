"""Pictures: the same derivation twice, along rows and then along the columns of the row's step.

In the second pass, what depends on cached rows alone is known, and is computed once per row before
its first pixel. What looks right within its own row (a vertical stack) is refused there, which
does no harm: the logits do not ask for it, and the next row gets it from the finished row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from toolkit.capture.causal.body import BATCHES, Body, body
from toolkit.capture.causal.derive import choices, drawing, example, resized
from toolkit.capture.causal.gates import gates_apart
from toolkit.capture.causal.incremental import Incremental
from toolkit.capture.causal.network import Network
from toolkit.capture.causal.program import (
    blank,
    capture,
    double_by_default,
    evaluate,
    shape_of,
    trace,
)
from toolkit.core.entry import Autoregressive

Made = tuple[Callable[..., Any], Sequence[Tensor]]


@dataclass(frozen=True, slots=True)
class DerivedRows:
    """The step of a network over pictures, in pieces with a free batch.

    Arguments:
        height: Rows.
        width: Columns.
        predicts: Of which pixel the logits speak: `this` or `next`.
        prologue: Context to the rows' known sequences, known values and first states.
        before: Row number, row states, entries and values to the same three of its pixels.
        step: Pixel, column number, pixel states, entries, values to logits, the pixel, the next
            states, and what the row's end needs of this pixel.
        draw: The same with noise first: to the category in the place of logits.
        after: The row's pixels, what the steps gave of each, then what `before` takes: to the
            next row states.
        rows: Known sequences and known values of rows.
        pixels: Known sequences and known values of pixels.
        states: States of rows and of pixels.
        column: One pixel at a batch of 1.
    """

    height: int
    width: int
    predicts: str
    prologue: Body
    before: Body
    step: Body
    draw: Body
    after: Body
    rows: tuple[int, int]
    pixels: tuple[int, int]
    states: tuple[int, int]
    column: Tensor


class Raster:
    """A picture's network made incremental twice, at one batch.

    Arguments:
        network: The network.
        sampler: What is sampled.
        batch: The batch.
    """

    def __init__(self, network: nn.Module, sampler: Autoregressive, batch: int) -> None:
        inputs = [resized(item, batch) for item in (sampler.input, *sampler.context)]
        down, across = sampler.position_axes
        self.rows = Incremental(gates_apart(capture(network, inputs)), down)
        with double_by_default():
            self.row_example = example(self.rows)
            row = trace(self.rows.step, self.row_example)
            self.columns = Incremental(row, across - 1)
            self.stacked = _frontier(self.columns)
            self.axes = [self.columns.axis_of(node) for node in self.stacked]

    @property
    def known(self) -> list[Tensor]:
        """Examples of what a row knows before its first pixel."""
        return self.row_example[1:]

    def pixel_example(self) -> list[Tensor]:
        """Return example arguments of a pixel's step."""
        given = self.columns.known(*self.known)
        tables, count = self.columns.tables, self.columns.tables + self.columns.wholes
        entries = [table[0].clone() for table in given[:tables]]
        time = torch.zeros((), dtype=torch.int64)
        pixel = self.columns.blank_column()
        return [pixel, time, *given[count:], *entries, *given[tables:count]]

    def pixel(
        self, choose: Callable[[Tensor], tuple[Tensor, Tensor]], *given: Tensor
    ) -> tuple[Tensor, ...]:
        """Return what is chosen, the pixel, the next states and the row's end needs."""
        return self.columns.draw(choose, *given, stacked=self.stacked)

    def finish(self, row: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        """Return the row states after a row.

        Arguments:
            row: Its pixels, `(width, batch, …)`.
            rest: What the steps gave, stacked; then the row number, states, entries and values.
        """
        program, count = self.columns.program, len(self.stacked)
        given = {program.inputs[0]: row.movedim(0, self.columns.axis)}
        given.update(zip(program.inputs[1:], rest[count:], strict=True))
        for node, axis, value in zip(self.stacked, self.axes, rest[:count], strict=True):
            given[node] = value.movedim(0, axis)
        value_of = evaluate(program, given)
        return tuple(value_of(node) for node in program.outputs[1:])


def derive_rows(model: nn.Module, sampler: Autoregressive) -> DerivedRows:
    """Derive the step of a causal network over pictures.

    Arguments:
        model: The model in evaluation mode; it is left as it is.
        sampler: What is sampled, and how the network is called.

    Raises:
        Refusal: The network is not causal, or holds an operator that no rule follows.
        UsageError: The declaration does not fit the network.
    """
    network = Network(model, sampler).eval()
    made = {batch: Raster(network, sampler, batch) for batch in BATCHES}

    def prologue(batch: int) -> Made:
        rows = made[batch].rows
        return rows.known, [blank(node) for node in rows.program.inputs[1:]]

    def before(batch: int) -> Made:
        return made[batch].columns.known, made[batch].known

    def step(batch: int) -> Made:
        def forced(x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
            return made[batch].pixel(lambda logits: (logits, x), x, *rest)

        return forced, made[batch].pixel_example()

    def draw(batch: int) -> Made:
        raster = made[batch]
        return drawing(raster.pixel, sampler), [
            *choices(sampler, batch),
            *raster.pixel_example(),
        ]

    def after(batch: int) -> Made:
        raster = made[batch]
        row = blank(raster.columns.program.inputs[0]).movedim(raster.columns.axis, 0)
        stacked = [
            blank(node).movedim(axis, 0)
            for node, axis in zip(raster.stacked, raster.axes, strict=True)
        ]
        return raster.finish, [row, *stacked, *raster.known]

    one = made[BATCHES[0]]
    rows, columns = one.rows, one.columns
    with double_by_default():
        return DerivedRows(
            height=rows.length,
            width=columns.length,
            predicts=columns.predicts,
            prologue=body(prologue, "the prologue of all rows"),
            before=body(before, "the prologue of a row"),
            step=body(step, "the step"),
            draw=body(draw, "the sampler's step"),
            after=body(after, "the end of a row"),
            rows=(rows.tables, rows.wholes),
            pixels=(columns.tables, columns.wholes),
            states=(len(rows.plan.states), len(columns.plan.states)),
            column=columns.blank_column()[:1],
        )


def _frontier(columns: Incremental) -> list[fx.Node]:
    """Return what is computed per pixel and needed for the row states: it is not done twice."""
    program, computed = columns.program, set(columns.plan.computed)
    found: list[fx.Node] = []
    seen: set[fx.Node] = set()
    pending = list(program.outputs[1:])
    while pending:
        node = pending.pop()
        if node in seen or node in program.const:
            continue
        seen.add(node)
        if node in computed and shape_of(node):
            found.append(node)
        else:
            pending += node.all_input_nodes
    return found
