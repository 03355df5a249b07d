"""Chunks of positions: loops in loops, each with the past taps that reach back a chunk or more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.capture.causal.choice import controls_of, split
from toolkit.capture.causal.hierarchy import DerivedChunks, derive_chunks
from toolkit.capture.causal.network import laid_out
from toolkit.capture.causal.prove import holds_at_other_lengths, prove
from toolkit.capture.causal.walk import chunked
from toolkit.core.entry import Autoregressive
from toolkit.core.errors import ExportError
from toolkit.core.protocols import Scheduled
from toolkit.schedules._confirm import confirm
from toolkit.schedules._loop import by_chunk, parts, scanned
from toolkit.schedules._step import StepModule, precision_of
from toolkit.schedules.scan import ScanSampler


@dataclass(frozen=True, slots=True)
class Queue:
    """How the past terms of convolutions are read from one queue, once per chunk.

    Arguments:
        lags: How far back they read, the furthest first.
        widths: Channels of each convolution.
    """

    lags: tuple[int, ...]
    widths: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Level:
    """One loop over chunks.

    Arguments:
        size: Positions of a chunk.
        queues: What is read once per chunk.
        given: How many columns longer chunks read.
    """

    size: int
    queues: tuple[Queue, ...]
    given: int


class ChunkSampler(ScanSampler):
    """Draw sequences from noise: loops over chunks that hold loops over shorter ones.

    What lies a chunk behind is known before the chunk starts: its past terms at all positions are
    one product, and its queue moves once per chunk.

    Arguments:
        derived: The network's step by chunks.
        sampler: What is sampled.
        dtype: The network's precision.
    """

    def __init__(self, derived: DerivedChunks, sampler: Autoregressive, dtype: torch.dtype) -> None:
        super().__init__(derived.plain, sampler, dtype)
        self.prologue = derived.prologue.to(dtype)
        self.length = chunked(derived.plain.length, derived.sizes[0])
        self.register_buffer("steps", torch.arange(self.length))
        self.levels: list[Level] = []
        given = 0
        for size in derived.sizes:
            far = [item for item in derived.far if item.chunk == size]
            queues = tuple(Queue(tuple(item.past.lags), item.widths) for item in far)
            self.levels.append(Level(size, queues, given))
            given += len(far)
        self.weights: list[str] = []
        for item in derived.far:
            for value in (item.past.weight, item.past.bias):
                self.weights.append(f"weight_{len(self.weights)}")
                self.register_buffer(self.weights[-1], value.to(dtype, copy=True))

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
        carried = [*(newest if self.predicts == "next" else []), *states]
        # Of numbers that are not negative: ONNX divides towards zero, Python downwards.
        size = self.levels[0].size
        count = (length + size - 1) // size
        inputs = [
            by_chunk(item, count, size, self.length)
            for item in (self.steps, noise, *prefix, *tables)
        ]
        weights = [self.get_buffer(name) for name in self.weights]
        fixed = [*controls, *wholes, *weights, *self.draw.constants()]

        def chunk(states: Any, entries: Any, fixed: Any) -> tuple[Any, Any]:
            following, (drawn, *_) = self._chunk(0, states, entries, [], fixed)
            return following, (drawn,)

        _, (drawn,) = scanned(chunk, carried, inputs, fixed)
        places = torch.arange(length, device=self.steps.device)
        return laid_out(self.sampler, drawn[places // size, places % size])

    def _chunk(
        self,
        number: int,
        states: Sequence[Tensor],
        entries: Sequence[Tensor],
        terms: Sequence[Tensor],
        fixed: Sequence[Tensor],
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Draw the positions of one chunk.

        Arguments:
            number: Of the level.
            states: The states, then the queues of the longest chunks first.
            entries: Per position of the chunk: time, noise, options, entries of known sequences.
            terms: Far terms of longer chunks per position, each `(positions, batch, out)`.
            fixed: Options, known values, weights, constants.

        Returns:
            The next states, and per position what was drawn and the columns that longer chunks
            read.
        """
        level, last = self.levels[number], number == len(self.levels) - 1
        inner, queues = self._own(number, states)
        known = [*terms, *self._terms(number, queues, fixed)]
        inputs = [*entries, *known]
        first = len(entries)
        if last:
            following, results = scanned(self._position, inner, inputs, fixed)
        else:
            shorter = self.levels[number + 1].size

            def chunk(states: Any, entries: Any, fixed: Any) -> tuple[Any, Any]:
                return self._chunk(number + 1, states, entries[:first], entries[first:], fixed)

            count = level.size // shorter
            parted = [item.reshape(count, shorter, *item.shape[1:]) for item in inputs]
            following, results = scanned(chunk, inner, parted, fixed)
            results = [item.flatten(0, 1) for item in results]
        upper, new = results[: 1 + level.given], results[1 + level.given :]
        moved = [
            torch.cat([queue[level.size :], columns])
            for queue, columns in zip(queues, new, strict=True)
        ]
        return self._joined(number, following, moved), [*upper]

    def _own(
        self, number: int, states: Sequence[Tensor]
    ) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """Return the states of the loop inside, and the queues of this level."""
        below = sum(len(level.queues) for level in self.levels[number + 1 :])
        own = len(self.levels[number].queues)
        first = len(states) - own - below
        return [*states[:first], *states[first + own :]], states[first : first + own]

    def _joined(
        self, number: int, inner: Sequence[Tensor], queues: Sequence[Tensor]
    ) -> list[Tensor]:
        """Return the states of the loop inside with the queues of this level in their place."""
        below = sum(len(level.queues) for level in self.levels[number + 1 :])
        first = len(inner) - below
        return [*inner[:first], *queues, *inner[first:]]

    def _terms(
        self, number: int, queues: Sequence[Tensor], fixed: Sequence[Tensor]
    ) -> list[Tensor]:
        """Return the far terms of a level at all positions of its chunk, one per convolution."""
        level = self.levels[number]
        before = sum(len(upper.queues) for upper in self.levels[:number])
        *_, weights, _ = self._parts(fixed)
        pairs = zip(weights[2 * before :: 2], weights[2 * before + 1 :: 2], strict=True)
        found: list[Tensor] = []
        for read, queue, (weight, bias) in zip(level.queues, queues, pairs, strict=False):
            longest = read.lags[0]
            rows = [queue.narrow(0, longest - lag, level.size) for lag in read.lags]
            taps = torch.cat(rows, -1) if len(rows) > 1 else rows[0]
            terms = taps @ weight + bias
            # One product and one split a chunk: products apart would be more operators.
            found += torch.split(terms, list(read.widths), -1) if len(read.widths) > 1 else [terms]
        return found

    def _position(self, states: Any, entries: Any, fixed: Any) -> tuple[Any, Any]:
        """Draw one position."""
        time, here, *rest = entries
        prefix, now, terms = parts(rest, [int(self.sampler.prefix), self.tables])
        controls, wholes, _, constants = self._parts(fixed)
        reads = self.predicts == "next"
        x, kept = (states[0], states[1:]) if reads else (here, states)
        taken = (here, *prefix, *controls, x, time, *kept, *now, *wholes, *terms)
        level, x, *following = self.draw.run(here.shape[0], taken, constants)
        last = len(kept)
        return (*([x] if reads else []), *following[:last]), (level, *following[last:])

    def _parts(self, fixed: Sequence[Tensor]) -> list[Sequence[Tensor]]:
        """Return options, known values, weights of far terms and constants."""
        sizes = [len(controls_of(self.sampler)), self.wholes, len(self.weights)]
        return parts(fixed, sizes)


def schedule(model: nn.Module, sampler: Autoregressive) -> Scheduled:
    """Return the sampler of a causal network with dilated convolutions, by chunks of positions.

    Raises:
        ExportError: The network is outside the class, no convolution of it reads only what lies a
            chunk behind, or what was derived is not proved equal.
    """
    if sampler.order != "time":
        raise ExportError(
            "chunks of positions run along time",
            where=f"order {sampler.order!r}",
            next_step="rows or wavefront lay out pictures",
        )
    derived = derive_chunks(model, sampler)
    prove(model, sampler, derived.plain)
    dtype = precision_of(model)
    # In float64 first: the pieces are cast where they stand.
    confirm(model, sampler, ChunkSampler(derived, sampler, torch.float64))
    generate = ChunkSampler(derived, sampler, dtype)
    step = StepModule(derived.plain, sampler, dtype)
    # Two chunks at least: a tracer of sizes takes one for a case of its own.
    free = holds_at_other_lengths(model, sampler)
    lengths = (derived.sizes[0] + 1, derived.plain.length) if free else None
    return Scheduled(generate, step, step.inputs(), step.outputs(), lengths)
