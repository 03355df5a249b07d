"""Proof of a derived step: causality by perturbation, and equality with the whole forward."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.capture.causal.derive import Derived, contexts, resized
from toolkit.capture.causal.network import Network, any_samples, as_drawn, network_input
from toolkit.capture.causal.program import double_by_default
from toolkit.capture.causal.raster import DerivedRows
from toolkit.capture.causal.wave.derive import DerivedWave
from toolkit.capture.oracle import in_double
from toolkit.core.entry import Autoregressive
from toolkit.core.errors import ExportError

BATCH = 2
POSITIONS = 12
# Of float64 sums in another order, relative to the largest logit.
TOLERANCE = 1e-9


def prove(model: nn.Module, sampler: Autoregressive, derived: Derived) -> None:
    """Check in float64 that a derived step is the network's.

    Raises:
        ExportError: The network is not causal, its logits speak of another position than
            declared, or the step differs from the whole forward anywhere.
    """
    _prove(model, sampler, derived.predicts, partial(step_by_step, derived, sampler))


def prove_rows(model: nn.Module, sampler: Autoregressive, derived: DerivedRows) -> None:
    """Check in float64 that a derived step over pictures is the network's.

    Raises:
        ExportError: As `prove`.
    """
    _prove(model, sampler, derived.predicts, partial(pixel_by_pixel, derived, sampler))


def prove_wave(model: nn.Module, sampler: Autoregressive, derived: DerivedWave) -> None:
    """Check in float64 that a derived step along a wavefront is the network's.

    Raises:
        ExportError: As `prove`.
    """
    _prove(model, sampler, "this", partial(wave_by_wave, derived, sampler))


def _prove(
    model: nn.Module,
    sampler: Autoregressive,
    predicts: str,
    stepped: Callable[[Tensor, list[Tensor]], Tensor],
) -> None:
    if sampler.predicts != predicts:
        raise _wrong_position(sampler, predicts)
    with in_double(), torch.no_grad():
        network = doubled(model, sampler)
        x, context = random_input(sampler), [_double(c) for c in contexts(sampler, BATCH)]
        logits = _by_position(network(x, *context))
        check_causality(network, sampler, x, context)
    # In float64 by their own weights: watching each of their operators takes longer than they.
    with double_by_default(), torch.no_grad():
        steps = stepped(x, context)
    error = float((steps - logits).abs().max())
    limit = TOLERANCE * max(1.0, float(logits.abs().max()))
    if not error <= limit:
        off = (steps - logits).abs().amax((0, 2))
        raise ExportError(
            f"the derived step differs from the whole forward by {error:.2g}, the limit is "
            f"{limit:.2g}",
            where=f"position {int((off > limit).nonzero()[0])} of {len(off)}",
            next_step="report the network: a rule of toolkit/capture/causal is wrong for it",
        )


def doubled(model: nn.Module, sampler: Autoregressive) -> Network:
    """Return the network in float64; run it inside `in_double`."""
    return Network(copy.deepcopy(model).double(), sampler, whole=True).eval()


def random_input(sampler: Autoregressive) -> Tensor:
    """Return the float64 input of random categories, or numbers."""
    like = _double(resized(sampler.input, BATCH))
    positions = sampler.colours
    for axis in sampler.position_axes:
        positions *= like.shape[axis]
    return network_input(sampler, any_samples(sampler, positions, BATCH), like)


def check_causality(
    network: Network, sampler: Autoregressive, x: Tensor, context: list[Tensor]
) -> None:
    """Change the input at single positions; logits before it, and its own if it says so, stay.

    Raises:
        ExportError: An earlier position moved, or the logits speak of another position.
    """

    def logits(given: Tensor) -> Tensor:
        found = _by_position(network(given, *context))
        if sampler.channel_order is None:
            return found
        colours = found.reshape(*found.shape[:-1], sampler.colours, sampler.levels)
        return as_drawn(sampler, colours.movedim(1, 0)).movedim(0, 1)

    base = logits(x)
    scale = TOLERANCE * max(1.0, float(base.abs().max()))
    other = random_other(sampler, x)
    count = base.shape[1]
    chosen = torch.linspace(0, count - 1, min(POSITIONS, count)).long()
    own = False
    for position in sorted(set(chosen.tolist())):
        moved = (logits(_at(sampler, x, other, position)) - base).abs()
        moved = moved.amax((0, 2)) > scale
        earlier = moved[:position].nonzero().flatten()
        if len(earlier):
            raise ExportError(
                f"the network is not causal: logits at position {int(earlier[0])} change with "
                f"the input at position {position}",
                where=f"Autoregressive({sampler.name!r}, …)",
                next_step="mask or pad what reads later positions",
            )
        own |= bool(moved[position])
    if own != (sampler.predicts == "next"):
        raise _wrong_position(sampler, "next" if own else "this")


def step_by_step(
    derived: Derived, sampler: Autoregressive, x: Tensor, context: list[Tensor]
) -> Tensor:
    """Return what the step gives at every position, `(batch, time, levels)`, in float64."""
    prologue, step = (copy.deepcopy(item).double() for item in (derived.prologue, derived.step))
    (axis,) = sampler.position_axes
    batch = x.shape[0]
    known = prologue(batch, *context)
    tables, rest = known[: derived.tables], known[derived.tables :]
    wholes, states = rest[: derived.wholes], rest[derived.wholes :]
    found = []
    for time in range(derived.length):
        entries = [table[time] for table in tables]
        logits, *states = step(
            batch, x.select(axis, time), torch.tensor(time), *states, *entries, *wholes
        )
        found.append(logits)
    return torch.stack(found, 1)


def pixel_by_pixel(
    derived: DerivedRows, sampler: Autoregressive, x: Tensor, context: list[Tensor]
) -> Tensor:
    """Return what the step gives at every pixel, `(batch, positions, levels)`, in float64."""
    prologue, before, step, after = (
        copy.deepcopy(item).double()
        for item in (derived.prologue, derived.before, derived.step, derived.after)
    )
    down, across = sampler.position_axes
    batch = x.shape[0]
    tables, wholes, states = _parted(prologue(batch, *context), derived.rows)
    found = []
    for row in range(derived.height):
        entries = [table[row] for table in tables]
        known = (torch.tensor(row), *states, *entries, *wholes)
        columns, values, inner = _parted(before(batch, *known), derived.pixels)
        rows = []
        for column in range(derived.width):
            pixel = x.select(across, column).select(down, row)
            now = [table[column] for table in columns]
            logits, *rest = step(batch, pixel, torch.tensor(column), *inner, *now, *values)
            inner = rest[1 : 1 + derived.states[1]]
            rows.append((rest[0], *rest[1 + derived.states[1] :]))
            found.append(logits)
        stacked = [torch.stack(parts) for parts in zip(*rows, strict=True)]
        states = after(batch, *stacked, *known)
    return torch.stack(found, 1)


def wave_by_wave(
    derived: DerivedWave, sampler: Autoregressive, x: Tensor, context: list[Tensor]
) -> Tensor:
    """Return what the step gives at every pixel, `(batch, positions, levels)`, in float64."""
    prologue, step = (copy.deepcopy(item).double() for item in (derived.prologue, derived.step))
    wave, batch = derived.wave, x.shape[0]
    tables, wholes, states = _parted(prologue(batch, *context), derived.known)
    pixels = x.movedim(sampler.position_axes, (0, 1)).flatten(0, 1)
    visited = wave.entries(derived.place, derived.place.rect)
    rows, found = derived.rows(batch), []
    for time in range(wave.steps):
        now = pixels[visited[time]].transpose(0, 1).flatten(0, 1)
        given = [*(table[time] for table in (*derived.reads, *rows)), *states]
        given += [*(table[time] for table in tables), *wholes]
        logits, *states = step(batch, now, *given)
        found.append(logits.reshape(batch, wave.slots, -1))
    return torch.stack(found, 1).flatten(1, 2)[:, wave.places(derived.place)]


def _parted(known: Sequence[Tensor], sizes: tuple[int, int]) -> tuple[Any, Any, Any]:
    """Return known sequences, known values and first states."""
    tables, wholes = sizes
    return known[:tables], known[tables : tables + wholes], known[tables + wholes :]


def holds_at_other_lengths(model: nn.Module, sampler: Autoregressive) -> bool:
    """Return whether a shorter input gives the first logits of the longest."""
    (axis,) = sampler.position_axes
    with in_double(), torch.no_grad():
        network = doubled(model, sampler)
        x, context = random_input(sampler), [_double(c) for c in contexts(sampler, BATCH)]
        logits = network(x, *context)
        short = x.shape[axis] // 2 + 1
        try:
            found = network(x.narrow(axis, 0, short), *context)
        except Exception:  # noqa: BLE001  (whatever a network says of a length it does not take)
            return False
    limit = TOLERANCE * max(1.0, float(logits.abs().max()))
    same = found.shape[1] == short and bool(torch.isfinite(found).all())
    return same and float((found - logits[:, :short]).abs().max()) <= limit


def random_other(sampler: Autoregressive, x: Tensor) -> Tensor:
    """Return an input that differs from `x` at every position."""
    if x.is_floating_point():
        return x + 1.0
    return (x + 1) % sampler.levels


def _at(sampler: Autoregressive, x: Tensor, other: Tensor, position: int) -> Tensor:
    """Return `x` with the other's values at one position."""
    axes = sampler.position_axes
    pixel, rank = divmod(position, sampler.colours)
    sizes = [x.shape[axis] for axis in axes]
    here = (torch.arange(math.prod(sizes)) == pixel).reshape(sizes)
    columns, others = (value.movedim(axes, tuple(range(len(axes)))) for value in (x, other))
    here = here.reshape(*sizes, *[1] * (columns.ndim - len(axes)))
    if sampler.channel_order is not None:
        colours = torch.arange(sampler.colours) == sampler.channel_order[rank]
        here = here & colours.reshape(-1, *[1] * (columns.ndim - len(axes) - 2))
    return torch.where(here, others, columns).movedim(tuple(range(len(axes))), axes)


def _by_position(logits: Tensor) -> Tensor:
    """Return `(batch, positions, levels)`."""
    return logits.flatten(1, -2)


def _double(value: Tensor) -> Tensor:
    return value.double() if value.is_floating_point() else value


def _wrong_position(sampler: Autoregressive, found: str) -> ExportError:
    meaning = {"this": "do not read", "next": "read"}
    return ExportError(
        f"predicts={sampler.predicts!r} is declared, but logits {meaning[found]} the input at "
        "their own position",
        where=f"Autoregressive({sampler.name!r}, …)",
        next_step=f"declare predicts={found!r}, or correct the first layer's mask or shift",
    )
