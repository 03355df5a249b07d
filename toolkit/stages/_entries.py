"""Which entries of a model are exported."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from toolkit.capture.causal.choice import options
from toolkit.capture.causal.network import exact_samples
from toolkit.checks._draw import law, like
from toolkit.core import registry
from toolkit.core.entry import Autoregressive, Entry, Input
from toolkit.core.errors import ExportError, UsageError
from toolkit.core.protocols import Scheduled
from toolkit.core.recipe import Recipe

EXAMPLES = 3


def entries_of(model: nn.Module, recipe: Recipe) -> list[Entry]:
    """Return the entries that the recipe asks for.

    They are given as typed inputs, come from the model's own `entries()`, or from the adapter of
    the library that the model is from.

    Raises:
        UsageError: Nothing says what the entries are, one that is asked for does not exist, or two
            have one name.
    """
    wanted = recipe.export.entries
    if recipe.export.inputs:
        inputs = [_with_example(Input.parse(spec)) for spec in recipe.export.inputs]
        names = wanted or ["forward"]
        return _distinct([Entry(name, call=name, inputs=inputs) for name in names])
    declared = declared_entries(model)
    if not wanted:
        return plain_entries(model, declared)
    offered = {name: entry for entry in declared for name in (entry.name, *_parts(entry))}
    missing = [name for name in wanted if name not in offered]
    if missing:
        raise UsageError(
            f"the model has no entry {missing[0]!r}",
            where="[export] entries",
            next_step=registry.nearest(missing[0], list(offered)),
        )
    asked = [entry for entry in declared if {entry.name, *_parts(entry)} & set(wanted)]
    return _distinct(
        [
            plain
            for entry in asked
            for plain in plain_entries(model, [entry])
            if plain.name in wanted or entry.name in wanted
        ]
    )


def _distinct(entries: list[Entry]) -> list[Entry]:
    """Return entries as they are.

    Raises:
        UsageError: Two have one name, and so one folder.
    """
    names = [entry.name for entry in entries]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(
                f"two entries are called {name!r}",
                where=", ".join(names),
                next_step="give every entry a name of its own",
            )
    return entries


def _parts(entry: Entry | Autoregressive) -> tuple[str, ...]:
    return entry.parts if isinstance(entry, Autoregressive) else ()


def declared_entries(model: nn.Module) -> Sequence[Entry | Autoregressive]:
    """Return the entries that the model, or the adapter of its library, declares.

    Raises:
        UsageError: Neither does.
    """
    if callable(declare := getattr(model, "entries", None)):
        declared: Sequence[Entry | Autoregressive] = declare()
        return declared
    for name in registry.adapters.names():
        adapter = registry.adapters.load(name)
        if adapter.detects(model):
            found: Sequence[Entry | Autoregressive] = adapter.entries(model)
            return found
    raise UsageError(
        f"{type(model).__name__} does not say what its entries are",
        where="the model has no entries() and is of no known library",
        next_step="name them: --entry forward --input 'x:float32[batch,8]'",
    )


def plain_entries(model: nn.Module, entries: Sequence[Entry | Autoregressive]) -> list[Entry]:
    """Return entries as they are, and samplers as the entries that a schedule gives.

    Raises:
        UsageError: A sampler asks for an option that no schedule takes, or two entries have one
            name.
        ExportError: No schedule fits the model; every reason is in the message.
    """
    plain: list[Entry] = []
    for entry in entries:
        plain += [entry] if isinstance(entry, Entry) else sampler_entries(model, entry)
    return _distinct(plain)


def sampler_entries(model: nn.Module, sampler: Autoregressive) -> list[Entry]:
    """Return the entries of a sampler by the first schedule that takes the model.

    Raises:
        UsageError: The sampler's declaration does not fit its network.
        ExportError: No schedule fits the model; every reason is in the message.
    """
    reasons = []
    for name in sorted(registry.schedules.names(), key=_preference):
        try:
            scheduled = registry.schedules.load(name)(model, sampler)
        except ExportError as error:
            reasons.append(f"{name}: {error.what}" + (f" ({error.where})" if error.where else ""))
            continue
        return _entries(sampler, scheduled, name)
    raise ExportError(
        f"no schedule fits the sampler {sampler.name!r}",
        where="; ".join(reasons),
        next_step="make the network causal along its order, or add toolkit/schedules/<layout>.py",
    )


# Layouts for few networks come before those for many: they are the faster ones.
PREFERRED = ("steps", "wavefront")


def _preference(name: str) -> tuple[bool, str]:
    return name not in PREFERRED, name


def _entries(sampler: Autoregressive, scheduled: Scheduled, layout: str) -> list[Entry]:
    """Return `generate`, `step` where the layout has one, and `logits`."""
    generate, step, logits = sampler.parts
    axes = sampler.position_axes
    positions = sampler.colours * math.prod(sampler.input.shape[axis] for axis in axes)
    batch = next((item.shape[item.batch_axis] for item in sampler.context), EXAMPLES)
    noise = Input(
        "noise",
        law(sampler.law, (positions, batch, sampler.noises), torch.Generator().manual_seed(0)),
        dims=("time" if scheduled.lengths else None, "batch", None),
        kind="noise",
        law=sampler.law,
    )
    given = [_at_lengths(item, scheduled.lengths) for item in options(sampler, positions, batch)]
    ranges = {}
    if scheduled.lengths:
        low, high = scheduled.lengths
        ranges = {"time": (low, max(low, high // 2), high)}
    found = [
        Entry(
            generate,
            call=OfSchedule(scheduled.generate, layout),
            inputs=[noise, *given, *sampler.context],
            outputs=["x"],
            reference=Exact(sampler, scheduled.generate),
            units={} if sampler.head else {"x": "index"},
            ranges=ranges,
        )
    ]
    if scheduled.step is not None:
        found.append(
            Entry(
                step,
                call=OfSchedule(scheduled.step, layout),
                inputs=scheduled.inputs,
                outputs=scheduled.outputs,
                units={} if sampler.head else {"logits": "nats"},
            )
        )
    found.append(
        Entry(
            logits,
            call=sampler.call,
            inputs=[_at_lengths(sampler.input, scheduled.lengths), *sampler.context],
            outputs=["logits"],
            units={} if sampler.head else {"logits": "nats"},
            ranges=ranges,
        )
    )
    return found


def _at_lengths(item: Input, lengths: tuple[int, int] | None) -> Input:
    """Return the input, its length fixed where the network takes no other."""
    if lengths is not None:
        return item
    dims = tuple(None if name == "time" else name for name in item.dims)
    return dataclasses.replace(item, dims=dims)


class OfSchedule(nn.Module):
    """A schedule's module in the place of an entry's call.

    Arguments:
        schedule: The module.
        layout: The schedule's name.
    """

    def __init__(self, schedule: nn.Module, layout: str = "") -> None:
        super().__init__()
        self.schedule, self.layout = schedule, layout
        self._double: list[nn.Module] = []

    def forward(self, _: nn.Module, *tensors: torch.Tensor) -> Any:
        """Run the schedule; the model is not needed. In a float64 world it runs in float64."""
        if torch.get_default_dtype() is not torch.float64:
            return self.schedule(*tensors)
        if not self._double:
            self._double.append(copy.deepcopy(self.schedule).double())
        return self._double[0](*tensors)


class Exact(nn.Module):
    """The samples that the whole network confirms: its own choice at every position.

    Such a sequence is the only one: its first category depends on nothing, and every other one on
    those before it. So drawing position by position with the whole network gives the same, at a
    whole forward per position. Here a schedule's samples are the first guess; each round with the
    whole network mends at least one more position, and none is needed where the guess is right.

    Arguments:
        sampler: What is sampled.
        guess: The schedule's module.

    References:
        Accelerating Feedforward Computation via Parallel Nonlinear Equation Solving, 2021,
        arXiv 2002.03629.
    """

    def __init__(self, sampler: Autoregressive, guess: nn.Module) -> None:
        super().__init__()
        self.sampler, self.guess = sampler, OfSchedule(guess)

    @torch.no_grad()
    def forward(self, model: nn.Module, noise: torch.Tensor, *given: torch.Tensor) -> torch.Tensor:
        """Return categories in the layout of `generate`."""
        guess = self.guess(model, noise, *given)
        return exact_samples(model, self.sampler, noise, given, guess)


def _with_example(item: Input) -> Input:
    """Return the input with an example drawn by its element type and range."""
    if not isinstance(getattr(torch, item.dtype, None), torch.dtype):
        raise UsageError(
            f"no element type is called {item.dtype!r}",
            where=f"input {item.name!r}",
            next_step="float32, int64, …",
        )
    value = like(item, 1, torch.Generator().manual_seed(0), shape=item.shape)
    return Input(item.name, value, dims=item.dims, kind=item.kind, low=item.low, high=item.high)
