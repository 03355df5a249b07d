"""What checks of flows share: both directions from the entries alone, and the base density."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from toolkit.checks import _draw
from toolkit.core.case import Case
from toolkit.core.entry import Entry, Input
from toolkit.core.protocols import Source

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from torch import Tensor

    Tensors = Mapping[str, Tensor]
    Arrays = dict[str, np.ndarray]
    Evaluate = Callable[[Entry, Sequence[Tensor]], tuple[Tensor, ...]]

GIVEN = "given."


@dataclass(frozen=True, slots=True)
class Directions:
    """Density and inverse of one flow, matched by the names of their tensors.

    Arguments:
        density: `log_prob(data…, context…)`.
        inverse: `inverse(latents…, context…) -> (data…, log_det)`.
        latents: The inverse's inputs that the density does not have.
        data: The density's inputs that the inverse gives.
    """

    density: Entry
    inverse: Entry
    latents: tuple[Input, ...]
    data: tuple[Input, ...]


def directions(source: Source) -> Directions | None:
    """Return both directions of a flow where both are entries and fit each other."""
    density, inverse = named(source, "log_prob"), named(source, "inverse")
    if source.signature.family != "flow" or density is None or inverse is None:
        return None
    given = {item.name for item in inverse.inputs}
    made = set(inverse.outputs[:-1])
    wanted = {item.name for item in density.inputs}
    if (
        not inverse.outputs
        or inverse.outputs[-1] != "log_det"
        or not made <= wanted <= made | given
    ):
        return None
    return Directions(
        density,
        inverse,
        latents=tuple(item for item in inverse.inputs if item.name not in wanted),
        data=tuple(item for item in density.inputs if item.name in made),
    )


def named(source: Source, name: str) -> Entry | None:
    """Return the model's entry of a name: an exported one, else one that it declares itself."""
    declare = getattr(source.model, "entries", tuple)
    entries = (*source.entries, *declare())
    return next((e for e in entries if isinstance(e, Entry) and e.name == name), None)


def encoder(source: Source, both: Directions) -> Entry | None:
    """Return `forward(data…, context…) -> (latents…, log_det)`.

    It is an entry, or the `forward` that a model of the family has by its contract.
    """
    if found := named(source, "forward"):
        return found
    if getattr(source.model, "family", "") != "flow":
        return None
    outputs = [*(item.name for item in both.latents), "log_det"]
    return Entry("forward", "forward", both.density.inputs, outputs)


def codes(source: Source, both: Directions, count: int) -> dict[str, Tensor]:
    """Return the inverse's inputs for real data: its latents, and the context; none if unknown.

    The data lie beside them under the names that they have in the density.
    """
    forward = encoder(source, both)
    if forward is None:
        return {}
    real = _draw.real(dataclasses.replace(source, entry=both.density), count)
    *latents, _ = source.eager(forward, ordered(forward, real))
    return {**real, **{item.name: z for item, z in zip(both.latents, latents, strict=True)}}


def ordered(entry: Entry, tensors: Tensors) -> Sequence[Tensor]:
    """Return an entry's inputs in its order, out of tensors by name."""
    return [tensors[item.name] for item in entry.inputs]


def decoded(both: Directions, evaluate: Evaluate, tensors: Tensors) -> tuple[Tensors, Tensor]:
    """Return data and context that the inverse gives for latents and context, and its log_det."""
    *data, log_det = evaluate(both.inverse, ordered(both.inverse, tensors))
    return {**tensors, **dict(zip(both.inverse.outputs, data, strict=False))}, log_det


def log_prob(both: Directions, evaluate: Evaluate, tensors: Tensors) -> Tensor:
    """Return the log-density of data and context, `(batch,)`, in nats."""
    return evaluate(both.density, ordered(both.density, tensors))[0]


def given(both: Directions, tensors: Tensors) -> dict[str, Tensor]:
    """Return the density's inputs that the inverse does not give, as extra arrays of a case."""
    made = {item.name for item in both.data}
    return {
        GIVEN + item.name: tensors[item.name]
        for item in both.density.inputs
        if item.name not in made
    }


def density_feeds(case: Case, outputs: Arrays) -> Arrays:
    """Return what the density graph is fed: the inverse graph's data, and what was given."""
    context = {
        name.removeprefix(GIVEN): array
        for name, array in case.extra.items()
        if name.startswith(GIVEN)
    }
    return {name: array for name, array in outputs.items() if name != "log_det"} | context


def log_base(latents: Sequence[Input], tensors: Tensors) -> Tensor | None:
    """Return the base's log-density in nats and float64, `(batch,)`.

    Only noise has a law that is known; latents of another kind are of a base of the model's own.
    """
    if not latents or any(item.kind != "noise" for item in latents):
        return None
    terms = [_log_law(item, tensors[item.name].double()) for item in latents]
    return sum(terms[1:], start=terms[0])


def _log_law(item: Input, noise: Tensor) -> Tensor:
    density = {
        "normal": lambda z: -0.5 * (z * z + math.log(2 * math.pi)),
        "uniform": lambda z: z * 0,
        "gumbel": lambda z: -z - (-z).exp(),
    }[item.law](noise)
    summed: Tensor = density.movedim(item.batch_axis, 0).flatten(1).sum(1)
    return summed
