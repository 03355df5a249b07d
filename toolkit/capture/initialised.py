"""Refuse a call that changes the model: a layer that initialises itself, a running average."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from toolkit.capture.record import own_copy
from toolkit.core.errors import ExportError
from toolkit.nn.iterate import heard_by, once


def check_initialised(module: nn.Module, first: Sequence[Tensor], second: Sequence[Tensor]) -> None:
    """Run copies of a module on two batches and compare what the calls left in its state.

    Raises:
        ExportError: A parameter or buffer now holds statistics of the batch.
    """
    before = _state(module)
    copies = [own_copy(module), own_copy(module)]
    one, other = (
        _after(fresh, batch) for fresh, batch in zip(copies, (first, second), strict=True)
    )
    changed = [
        name
        for name, value in before.items()
        if not _equal(one[name], value) and not _equal(one[name], other[name])
    ]
    if not changed:
        return
    path, _, tensor = changed[0].removeprefix("model.").rpartition(".")
    where = f"module {path}" if path else type(module).__name__
    # A layer that initialises itself leaves the next batch's statistics alone.
    if not _equal(_after(copies[0], second)[changed[0]], one[changed[0]]):
        raise ExportError(
            f"the call changes its own buffer {tensor!r}: a graph keeps nothing between calls",
            where=where,
            next_step="update it outside the exported call, such as only if self.training",
        )
    raise ExportError(
        f"a layer is not initialised: its call sets {tensor!r} from the batch that it is given",
        where=where,
        next_step="run the model once on a batch of training data, then export it",
    )


def _after(module: nn.Module, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
    """Return a module's state after a call; one that fails is reported with its outputs."""
    with torch.no_grad(), heard_by(once), contextlib.suppress(Exception):
        module(*(tensor.clone() for tensor in tensors))
    return _state(module)


def _state(module: nn.Module) -> dict[str, Tensor]:
    named = (*module.named_parameters(), *module.named_buffers())
    return {name: tensor.detach().clone() for name, tensor in named}


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and bool(
        ((one == other) | ((one != one) & (other != other))).all()
    )
