"""One entry as a module: the model and its call behind a plain `forward`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.core.entry import Call, Entry
from toolkit.core.errors import UsageError


class EntryModule(nn.Module):
    """Give an entry's call the form that exporters expect.

    Arguments:
        model: The model.
        call: A method's name, or a callable `(model, *tensors)`.
    """

    def __init__(self, model: nn.Module, call: Call) -> None:
        super().__init__()
        self.model = model
        self.call = call
        if isinstance(call, str) and not callable(getattr(model, call, None)):
            raise UsageError(
                f"{type(model).__name__} has no method {call!r}",
                where="the entry's call",
                next_step="name one of the model's methods, or give a callable (model, *tensors)",
            )

    def forward(self, *tensors: Tensor) -> Any:
        """Return what the call returns: a tensor, or a tuple of all that it holds."""
        result = bound(self.model, self.call)(*tensors)
        nested = isinstance(result, Mapping | tuple | list)
        return tuple(value for _, value in _leaves(result)) if nested else result


def bound(model: nn.Module, call: Call) -> Callable[..., Any]:
    """Return an entry's call as a function of its tensors; `forward` with the module's hooks."""
    if not isinstance(call, str):
        return partial(call, model)
    method: Callable[..., Any] = model if call == "forward" else getattr(model, call)
    return method


def _leaves(result: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested dictionaries and sequences with their names; no `None`."""
    if isinstance(result, Mapping):
        items: Iterable[tuple[Any, Any]] = result.items()
    elif isinstance(result, tuple | list):
        items = enumerate(result)
    else:
        if result is not None:
            yield name, result
        return
    for key, value in items:
        yield from _leaves(value, f"{name}_{key}" if name else str(key))


def entry_module(model: nn.Module, entry: Entry) -> EntryModule:
    """Return the module that is captured for an entry."""
    return EntryModule(model, entry.call)


def reference_module(model: nn.Module, entry: Entry) -> EntryModule:
    """Return the module that answers for an entry in eager: its plain form."""
    return EntryModule(model, entry.reference or entry.call)


def as_tuple(result: Any) -> tuple[Tensor, ...]:
    """Return a call's result as a tuple of tensors.

    Raises:
        UsageError: The call returned something else.
    """
    values = result if isinstance(result, tuple | list) else (result,)
    if not values or not all(isinstance(value, Tensor) for value in values):
        found = ", ".join(type(value).__name__ for value in values) or "nothing"
        raise UsageError(
            f"the call returned {found}",
            where="the entry's call",
            next_step="return a tensor, a tuple of tensors or a dict of tensors",
        )
    return tuple(values)


def output_names(entry: Entry, model: nn.Module, values: tuple[Tensor, ...]) -> list[str]:
    """Return the outputs' names: those given, a dict result's, or numbered ones.

    Raises:
        UsageError: Another number of names is given than the call returns, or a name stands twice.
    """
    names = list(entry.outputs) or _dict_names(entry, model)
    if not names:
        names = [entry.name] if len(values) == 1 else [f"output_{i}" for i in range(len(values))]
    if len(names) != len(values):
        raise UsageError(
            f"entry {entry.name!r} names {len(names)} outputs but returns {len(values)}",
            where=", ".join(names),
            next_step="give one name per output",
        )
    every = [item.name for item in entry.inputs] + names
    if twice := [name for name in names if every.count(name) > 1]:
        raise UsageError(
            f"entry {entry.name!r} has more than one value called {twice[0]!r}",
            where=", ".join(every),
            next_step="give every input and output a name of its own: outputs=[…]",
        )
    return names


def _dict_names(entry: Entry, model: nn.Module) -> list[str]:
    inputs = [item.value for item in entry.inputs]
    with torch.no_grad():
        result = bound(model, entry.call)(*inputs)
    return [name for name, _ in _leaves(result)] if isinstance(result, Mapping) else []
