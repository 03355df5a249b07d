"""How adapters spell `log_prob`, `inverse` and `sample` for flows of any number of tensors."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from toolkit.core.entry import Entry, Input
from toolkit.core.errors import UsageError


def named(name: str, value: Tensor, **arguments: Any) -> Input:
    """Return an input of shape `(batch, *value.shape[1:])` with its example."""
    dims = ("batch", *(None for _ in value.shape[1:]))
    return Input(name, value.detach().cpu(), dims=dims, **arguments)


def bounded(low: float | None, high: float | None) -> dict[str, float | None]:
    """Return an input's bounds in float32, rounded inwards: float32's π is larger than π."""
    return {
        "low": None if low is None else _rounded(low),
        "high": None if high is None else -_rounded(-high),
    }


def _rounded(end: float) -> float:
    """Return the smallest number of float32 that is not below the given one, or the nearest."""
    nearest = np.float32(end)
    return float(nearest if float(nearest) >= end else np.nextafter(nearest, np.float32(np.inf)))


def density(call: Callable[..., Any], x: Sequence[Input], given: Sequence[Input]) -> Entry:
    """Return the entry `log_prob`: data and what it is conditioned on in, `(batch,)` nats out."""
    return Entry(
        "log_prob",
        call=call,
        inputs=[*x, *given],
        outputs=["log_prob"],
        units={"log_prob": "nats"},
        family="flow",
    )


def inverse(
    call: Callable[..., Any], z: Sequence[Input], given: Sequence[Input], data: Sequence[str]
) -> Entry:
    """Return the entry `inverse`: base space to data, with that direction's log-determinant."""
    return Entry(
        "inverse",
        call=call,
        inputs=[*z, *given],
        outputs=[*data, "log_det"],
        units={"log_det": "nats"},
        family="flow",
    )


def sampler(
    call: Callable[..., Any], noise: Sequence[Input], given: Sequence[Input], data: Sequence[str]
) -> Entry:
    """Return the entry `sample`: noise of the base's law in, samples out."""
    inputs = [*noise, *given]
    return Entry("sample", call=call, inputs=inputs, outputs=list(data), family="flow")


@contextlib.contextmanager
def kept(parts: Iterable[object]) -> Iterator[None]:
    """Put back every attribute that parts of a model set on themselves while they are evaluated.

    Libraries cache tensors between calls; one of a capture must not stay in the user's model.
    Parameters and buffers are the same tensors afterwards as before.
    """
    before = [(part, vars(part).copy()) for part in parts]
    try:
        yield
    finally:
        for part, attributes in before:
            vars(part).clear()
            vars(part).update(attributes)


def refuse_uninitialised(model: nn.Module, flag: Callable[[nn.Module], bool]) -> None:
    """Refuse a model with a layer whose parameters its first batch would set.

    Raises:
        UsageError: `flag` is true for a layer; the error names it.
    """
    for name, layer in model.named_modules():
        if flag(layer):
            raise UsageError(
                f"{type(layer).__name__} takes its parameters from its first batch, "
                "and has seen none",
                where=name,
                next_step="call the model once on training data, or load its trained weights",
            )


@contextlib.contextmanager
def standing_in(place: Any, functions: Mapping[str, Callable[..., Any]]) -> Iterator[None]:
    """Set functions of a library's module or class, and put the library's back afterwards."""
    before = {name: getattr(place, name) for name in functions}
    try:
        for name, function in functions.items():
            setattr(place, name, function)
        yield
    finally:
        for name, function in before.items():
            setattr(place, name, function)


@contextlib.contextmanager
def typed(like: Tensor) -> Iterator[None]:
    """Make the constants that a library creates without a type follow a tensor's.

    A flow in float64 meets float32 zeros otherwise.
    """
    before = torch.get_default_dtype()
    if like.dtype == before or not like.is_floating_point():
        yield
        return
    torch.set_default_dtype(like.dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
