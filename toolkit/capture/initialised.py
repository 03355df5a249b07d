"""Refuse a layer that would initialise itself from the batch that it is captured with."""

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
    states = []
    for tensors in (first, second):
        fresh = own_copy(module)
        # A call that fails in eager is reported when its outputs are looked at.
        with torch.no_grad(), heard_by(once), contextlib.suppress(Exception):
            fresh(*(tensor.clone() for tensor in tensors))
        states.append(_state(fresh))
    for name, value in before.items():
        one, other = (state[name] for state in states)
        if not _equal(one, value) and not _equal(one, other):
            path = name.rpartition(".")[0].removeprefix("model").removeprefix(".")
            raise ExportError(
                f"a layer is not initialised: its call sets {name.rpartition('.')[2]!r} from the "
                "batch that it is given",
                where=f"module {path}" if path else type(module).__name__,
                next_step="run the model once on a batch of training data, then export it",
            )


def _state(module: nn.Module) -> dict[str, Tensor]:
    named = (*module.named_parameters(), *module.named_buffers())
    return {name: tensor.detach().clone() for name, tensor in named}


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and bool(
        ((one == other) | ((one != one) & (other != other))).all()
    )
