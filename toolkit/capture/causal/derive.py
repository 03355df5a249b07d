"""From a declared sampler to the traced step, sampler body and prologue of its network."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.capture.causal.body import BATCHES, Body, body
from toolkit.capture.causal.choice import choose, options, split
from toolkit.capture.causal.gates import gates_apart
from toolkit.capture.causal.incremental import Incremental
from toolkit.capture.causal.network import Network, looked_up
from toolkit.capture.causal.program import blank, capture, double_by_default
from toolkit.capture.causal.walk import chunked
from toolkit.core.entry import Autoregressive, Input
from toolkit.core.errors import ExportError, UsageError


@dataclass(frozen=True, slots=True)
class Derived:
    """The step of a network along time, in pieces with a free batch.

    Arguments:
        length: Longest sequence.
        predicts: Of which position the logits speak: `this` or `next`.
        prologue: Context to known sequences, known values and first states.
        step: Column, time, states, entries and values to logits and states.
        draw: The same with noise first: to category, column and states.
        tables: How many known sequences there are.
        wholes: How many known values there are.
        column: The input's column at a batch of 1.
        chunk: Positions of a chunk; 0 where there are none. By chunks `draw` takes also what
            `Incremental.draw` says, and caches with one axis on each side of that of time.
        caches: Which states hold every column so far, and their axes of time.
        leads: Per cache which of the distinct numbers of rows, entries before the axis of time, it
            has.
    """

    length: int
    predicts: str
    prologue: Body
    step: Body
    draw: Body
    tables: int
    wholes: int
    column: Tensor
    chunk: int
    caches: dict[int, int]
    leads: tuple[int, ...]

    @property
    def states(self) -> int:
        """How many states are carried."""
        return len(self.prologue.outputs) - self.tables - self.wholes


def derive(model: nn.Module, sampler: Autoregressive, *, chunk: int = 0) -> Derived:
    """Derive the step of a causal network along time.

    Arguments:
        model: The model in evaluation mode; it is left as it is.
        sampler: What is sampled, and how the network is called.
        chunk: Positions of a chunk, for a loop over chunks of positions; 0 for none.

    Raises:
        ExportError: Chunks are asked for, and no state holds every column so far.
        Refusal: The network is not causal, or holds an operator that no rule follows.
        UsageError: The declaration does not fit the network.
    """
    at = incrementals(model, sampler)
    if chunk and not at(BATCHES[0]).plan.caches:
        raise ExportError(
            "no state of the network grows: it needs no cache of two levels",
            where=f"Autoregressive({sampler.name!r}, …)",
            next_step="scan lays it out",
        )

    def draw(batch: int) -> tuple[Callable[..., Any], list[Tensor]]:
        inc = at(batch)
        step = partial(inc.draw, chunk=chunk)
        arguments = chunk_example(inc, chunk) if chunk else example(inc)
        return drawing(step, sampler), [*choices(sampler, batch), *arguments]

    return pieces(at, draw, chunk=chunk)


def incrementals(model: nn.Module, sampler: Autoregressive) -> Callable[[int], Incremental]:
    """Return the network made incremental, by batch.

    Raises:
        Refusal: The network is not causal, or holds an operator that no rule follows.
        UsageError: The declaration does not fit the network.
    """
    network = Network(model, sampler).eval()
    (axis,) = sampler.position_axes

    @cache
    def at(batch: int) -> Incremental:
        inputs = [resized(item, batch) for item in (sampler.input, *sampler.context)]
        return Incremental(gates_apart(capture(network, inputs)), axis)

    return at


def pieces(
    at: Callable[[int], Incremental],
    draw: Callable[[int], tuple[Callable[..., Any], list[Tensor]]],
    *,
    chunk: int = 0,
) -> Derived:
    """Return the pieces of a step with a free batch.

    Arguments:
        at: The network made incremental, by batch.
        draw: The sampler's step and its example, by batch.
        chunk: Positions of a chunk; 0 for none.
    """

    def step(batch: int) -> tuple[Callable[..., Any], list[Tensor]]:
        return at(batch).step, example(at(batch))

    def prologue(batch: int) -> tuple[Callable[..., Any], list[Tensor]]:
        inc = at(batch)
        return inc.known, [blank(node) for node in inc.program.inputs[1:]]

    inc = at(BATCHES[0])
    at(BATCHES[1])
    numbers = {key: number for number, key in enumerate(inc.plan.states)}
    with double_by_default():
        return Derived(
            length=inc.length,
            predicts=inc.predicts,
            prologue=body(prologue, "the prologue"),
            step=body(step, "the step"),
            draw=body(draw, "the sampler's step"),
            tables=inc.tables,
            wholes=inc.wholes,
            column=inc.blank_column()[:1],
            chunk=chunk,
            caches={numbers[key]: axis for key, axis in inc.plan.caches.items()},
            leads=inc.plan.leads,
        )


def drawing(
    step: Callable[..., tuple[Tensor, ...]], sampler: Autoregressive
) -> Callable[..., tuple[Tensor, ...]]:
    """Return the sampler's step: noise `(batch, noises)`, options, then the step's arguments.

    Arguments:
        step: Takes a function from logits to the category and the column that stands for it,
            then its own arguments, the column first.
        sampler: What is sampled.
    """

    def draw(noise: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        prefix, controls, arguments = split(sampler, rest)
        x = arguments[0]

        def chosen(logits: Tensor) -> tuple[Tensor, Tensor]:
            level = choose(sampler, logits, noise, [*prefix, *controls])
            return level, looked_up(sampler, level, x)

        return step(chosen, *arguments)

    return draw


def choices(sampler: Autoregressive, batch: int) -> list[Tensor]:
    """Return examples of one position's noise and options, in float64."""
    noise = torch.zeros(batch, sampler.noises, dtype=torch.float64)
    found = [noise]
    for item in options(sampler, 1, batch):
        value: Tensor = item.value[0] if item.name == "prefix" else item.value
        found.append(value.double() if value.is_floating_point() else value)
    return found


def example(inc: Incremental) -> list[Tensor]:
    """Return example arguments of a step."""
    blanks = [blank(node) for node in inc.program.inputs[1:]]
    given = inc.known(*blanks)
    known, left = given[: inc.tables + inc.wholes], given[inc.tables + inc.wholes :]
    states = left[: len(inc.plan.states)]
    entries = [table[0].clone() for table in known[: inc.tables]]
    time = torch.zeros((), dtype=torch.int64)
    return [inc.blank_column(), time, *states, *entries, *known[inc.tables :]]


def chunk_example(inc: Incremental, chunk: int) -> list[Tensor]:
    """Return example arguments of a step by chunks: caches have one axis on each side of time."""
    given, old = example(inc), []
    for number, key in enumerate(inc.plan.states, start=2):
        if key in inc.plan.caches:
            axis, whole = inc.plan.caches[key], given[number]
            lead, behind = (
                math.prod(part) for part in (whole.shape[:axis], whole.shape[axis + 1 :])
            )
            old.append(whole.new_zeros(lead, chunked(inc.length, chunk), behind))
            given[number] = whole.new_zeros(lead, chunk, behind)
    hidden = [
        torch.zeros(size, dtype=torch.float64) for size in (chunked(inc.length, chunk), chunk)
    ]
    places = [f(rows) for rows in inc.plan.rows for f in (torch.arange, _no_places)]
    return [*given, *hidden, *places, *old]


def _no_places(rows: int) -> Tensor:
    return torch.zeros(rows, dtype=torch.int64)


def resized(item: Input, batch: int) -> Tensor:
    """Return an input's example with another batch.

    Raises:
        UsageError: The input has no example.
    """
    if item.value is None:
        raise UsageError(
            f"input {item.name!r} has no example", next_step="give a tensor of the longest length"
        )
    value: Tensor = item.value.detach().cpu()
    if not value.ndim:
        return value
    places = torch.arange(batch) % value.shape[item.batch_axis]
    return value.index_select(item.batch_axis, places)


def contexts(sampler: Autoregressive, batch: int) -> Sequence[Tensor]:
    """Return examples of the conditioning inputs."""
    return [resized(item, batch) for item in sampler.context]
