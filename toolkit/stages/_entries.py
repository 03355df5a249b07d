"""Which entries of a model are exported."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from toolkit.checks._draw import law, like
from toolkit.core import registry
from toolkit.core.entry import Autoregressive, Entry, Input
from toolkit.core.errors import ExportError, UsageError
from toolkit.core.recipe import Recipe

EXAMPLES = 3
# Options of a sampler that every schedule would have to heed, and what they are when not given.
UNSCHEDULED = {
    "predicts": "this",
    "channel_order": None,
    "prefix": False,
    "controls": False,
    "head": "",
}


def entries_of(model: nn.Module, recipe: Recipe) -> list[Entry]:
    """Return the entries that the recipe asks for.

    They are given as typed inputs, come from the model's own `entries()`, or from the adapter of
    the library that the model is from.

    Raises:
        UsageError: Nothing says what the entries are, or one that is asked for does not exist.
    """
    wanted = recipe.export.entries
    if recipe.export.inputs:
        inputs = [_with_example(Input.parse(spec)) for spec in recipe.export.inputs]
        return [Entry(name, call=name, inputs=inputs) for name in wanted or ["forward"]]
    known = {entry.name: entry for entry in declared_entries(model)}
    missing = [name for name in wanted if name not in known]
    if missing:
        raise UsageError(
            f"the model has no entry {missing[0]!r}",
            where="[export] entries",
            next_step=registry.nearest(missing[0], list(known)),
        )
    return [plain_entry(model, known[name]) for name in wanted or known]


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


def plain_entry(model: nn.Module, entry: Entry | Autoregressive) -> Entry:
    """Return an entry as it is, or a sampler as the entry that its schedule gives.

    Raises:
        UsageError: The sampler asks for an option that no schedule takes.
        ExportError: No schedule fits the model; every reason is in the message.
    """
    if isinstance(entry, Entry):
        return entry
    if refused := [name for name, plain in UNSCHEDULED.items() if getattr(entry, name) != plain]:
        raise UsageError(
            f"no schedule takes the option {refused[0]!r} yet",
            where=f"Autoregressive({entry.name!r}, …)",
            next_step=f"leave out {', '.join(refused)}",
        )
    reasons = []
    for name in registry.schedules.names():
        try:
            return _sampler(model, entry, registry.schedules.load(name)(model))
        except ExportError as error:
            reasons.append(f"{name}: {error.what}")
    raise ExportError(
        f"no schedule fits the sampler {entry.name!r}",
        where="; ".join(reasons),
        next_step="write the network from causal layers, or add toolkit/schedules/<layout>.py",
    )


class Scheduled(nn.Module):
    """A schedule's module in the place of an entry's call."""

    def __init__(self, schedule: nn.Module) -> None:
        super().__init__()
        self.schedule = schedule

    def forward(self, _: nn.Module, *tensors: torch.Tensor) -> Any:
        """Run the schedule; the model is not needed."""
        return self.schedule(*tensors)


def _sampler(model: nn.Module, entry: Autoregressive, schedule: nn.Module) -> Entry:
    axes = slice(-2, None) if entry.order == "raster" else slice(1, 2)
    positions = math.prod(entry.input.shape[axes])
    draws = torch.Generator().manual_seed(0)
    noise = Input(
        "noise",
        law("gumbel", (positions, EXAMPLES, entry.levels), draws),
        dims=(None, "batch", None),
        kind="noise",
        law="gumbel",
    )
    reference = entry.name if callable(getattr(model, entry.name, None)) else None
    return Entry(
        entry.name,
        call=Scheduled(schedule),
        inputs=[noise, *entry.context],
        outputs=["x"],
        reference=reference,
        units={"x": "index"},
    )


def _with_example(item: Input) -> Input:
    """Return the input with an example drawn by its element type and range."""
    if not hasattr(torch, item.dtype):
        raise UsageError(
            f"no element type is called {item.dtype!r}",
            where=f"input {item.name!r}",
            next_step="float32, int64, …",
        )
    value = like(item, item.shape[item.batch_axis], torch.Generator().manual_seed(0))
    return Input(item.name, value, dims=item.dims, kind=item.kind, low=item.low, high=item.high)
