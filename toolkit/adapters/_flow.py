"""What adapters of flow libraries share: detection, example draws, and the entries' form."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.adapters import _entries
from toolkit.core.entry import Entry, Input, Law
from toolkit.core.errors import UsageError
from toolkit.core.validation import without_validation

EXAMPLES = 16
Bounds = tuple[float | None, float | None]
UNBOUNDED: Bounds = (None, None)


def comes_from(model: object, library: str) -> bool:
    """Return whether the model's class, or one that it inherits from, is of a library.

    A library that no class comes from is not imported.
    """
    return any(cls.__module__.partition(".")[0] == library for cls in type(model).__mro__)


@contextlib.contextmanager
def drawing(model: nn.Module) -> Iterator[None]:
    """Evaluate the model to make examples: seeded, without gradients or validation.

    The model, the random state and the validation are put back afterwards.
    """
    training = {module: module.training for module in model.modules()}
    with torch.no_grad(), torch.random.fork_rng(), without_validation():
        torch.manual_seed(0)
        model.eval()
        try:
            yield
        finally:
            for module, flag in training.items():
                module.training = flag


@contextlib.contextmanager
def switched(model: nn.Module, flag: str, *, to: bool) -> Iterator[None]:
    """Set a flag of every layer that has it, and put it back afterwards."""
    layers: list[Any] = [m for m in model.modules() if getattr(m, flag, None) is (not to)]
    for layer in layers:
        setattr(layer, flag, to)
    try:
        yield
    finally:
        for layer in layers:
            setattr(layer, flag, not to)


def draw(model: nn.Module, law: Law, *shape: int) -> Tensor:
    """Return random examples of a law, `(batch, *shape)`, in the model's type and place."""
    make = torch.rand if law == "uniform" else torch.randn
    return make(EXAMPLES, *shape).to(one_parameter(model))


def one_parameter(model: nn.Module) -> Tensor:
    """Return a tensor that has the type and the place of the model's parameters."""
    return next(iter(model.parameters()), torch.zeros(()))


def density(
    call: Callable[..., Tensor], x: Tensor, context: Tensor | None, bounds: Bounds = UNBOUNDED
) -> Entry:
    """Return the entry `log_prob`; a conditional flow's has the context as its second input.

    Arguments:
        call: `(flow, x[, context]) -> log_prob`, `(batch,)`.
        x: Example data, `(batch, *features)`.
        context: Example context, `(batch, *features)`; `None` where the flow reads none.
        bounds: Smallest and largest value that the flow is defined on.
    """
    return _entries.density(call, [_input("x", x, bounds)], _context(context))


def inverter(
    call: Callable[..., tuple[Tensor, Tensor]],
    z: Tensor,
    context: Tensor | None,
    bounds: Bounds = UNBOUNDED,
) -> Entry:
    """Return the entry `inverse`: from the base's space to data, with that map's determinant.

    Arguments:
        call: `(flow, z[, context]) -> (x, log_det)`; log|det ∂x/∂z| is `(batch,)`.
        z: Example points of the base's space, `(batch, *features)`.
        context: Example context, `(batch, *features)`; `None` where the flow reads none.
        bounds: Smallest and largest value of the base's space.
    """
    return _entries.inverse(call, [_input("z", z, bounds)], _context(context), ["x"])


def sampler(
    call: Callable[..., Tensor],
    noise: Tensor,
    law: Law,
    context: Tensor | None,
    choice: Tensor | None = None,
) -> Entry:
    """Return the entry `sample`: noise in, samples out.

    Arguments:
        call: `(flow, noise[, choice][, context]) -> x`.
        noise: Example noise, `(batch, *features)`.
        law: Its law.
        context: Example context, `(batch, *features)`; `None` where the flow reads none.
        choice: Uniform noise that chooses a mixture's component, `(batch, 1)`; `None` without.
    """
    given = [_entries.named("noise", noise, kind="noise", law=law)]
    if choice is not None:
        given.append(_entries.named("choice", choice, kind="noise", law="uniform"))
    return _entries.sampler(call, given, _context(context), ["x"])


def first_width(network: nn.Module) -> int:
    """Return how many features the first layer of a network reads; 0 without a linear one."""
    return next(_sizes(network, "in_features"), 0)


def last_width(network: nn.Module) -> int:
    """Return how many features the last layer of a network gives; 0 without a linear one."""
    return next(reversed(list(_sizes(network, "out_features"))), 0)


def unreadable(model: nn.Module, what: str) -> UsageError:
    """Return an error that says what the flow does not tell about its inputs."""
    return UsageError(
        f"{type(model).__name__} does not say {what}",
        where=f"{type(model).__module__}.{type(model).__qualname__}",
        next_step="give the model a method entries(), or pass entries to toolkit.export",
    )


def _sizes(network: nn.Module, attribute: str) -> Iterator[int]:
    """Yield what linear layers store; libraries bring linear classes of their own."""
    found = (getattr(layer, attribute, None) for layer in network.modules())
    return (size for size in found if isinstance(size, int))


def _context(context: Tensor | None) -> list[Input]:
    return [] if context is None else [_entries.named("context", context, kind="context")]


def _input(name: str, value: Tensor, bounds: Bounds) -> Input:
    return _entries.named(name, value, **_entries.bounded(*bounds))
