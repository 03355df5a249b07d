"""Put the adapters' exportable functions in the place of a library's own during a capture."""

from __future__ import annotations

import contextlib
import functools
import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.core.protocols import Replacement
from toolkit.core.registry import adapters


def active() -> list[Replacement]:
    """Return the replacements of every library that this process has imported."""
    loaded = (adapter for _, adapter in adapters.items() if adapter.library in sys.modules)
    return [item for adapter in loaded for item in adapter.replacements()]


@contextlib.contextmanager
def replaced(module: nn.Module, inputs: Sequence[Tensor]) -> Iterator[None]:
    """Replace, and put everything back afterwards.

    Arguments:
        module: The entry's module: it runs once in eager where a replacement has to choose
            something from real values.
        inputs: Its inputs.
    """
    items = active()
    if measuring := [item for item in items if item.measure]:
        _measure(measuring, module, inputs)
    with _standing_in([(item, item.function) for item in items]):
        yield


class Solvers:
    """Replacements that only approximate a library's own approximation, such as an ODE's steps.

    A limit from float64 cannot judge them against the original, whose own error is larger: the
    oracle takes the same steps. Each one is measured against the original first.

    Arguments:
        module: The entry's module.
        inputs: Its inputs.
    """

    def __init__(self, module: nn.Module, inputs: Sequence[Tensor]) -> None:
        self._items = [item for item in active() if item.measure]
        if self._items:
            _measure(self._items, module, inputs)

    def __call__(self) -> contextlib.AbstractContextManager[None]:
        """Return a context in which they stand in."""
        return _standing_in([(item, item.function) for item in self._items])


def _measure(items: Sequence[Replacement], module: nn.Module, inputs: Sequence[Tensor]) -> None:
    with _standing_in([(item, item.measure) for item in items]), torch.no_grad():
        module(*(tensor.clone() for tensor in inputs))


@contextlib.contextmanager
def _standing_in(pairs: Sequence[tuple[Replacement, Any]]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for item, function in pairs:
            for target in item.targets:
                owner, name = resolve(target)
                stack.enter_context(_attribute(owner, name, function))
        yield


@contextlib.contextmanager
def _attribute(owner: Any, name: str, function: Callable[..., Any]) -> Iterator[None]:
    kept = vars(owner)[name]
    stands_in: Any = function
    if isinstance(kept, staticmethod):
        stands_in = staticmethod(function)
    elif isinstance(owner, type) and not hasattr(function, "__get__"):
        # An object with __call__ does not bind: a plain function around it does.
        stands_in = functools.wraps(kept)(lambda *args, **kwargs: function(*args, **kwargs))
    setattr(owner, name, stands_in)
    try:
        yield
    finally:
        setattr(owner, name, kept)


def resolve(target: str) -> tuple[Any, str]:
    """Return the object that holds `package.module:attribute` or `package.module:Class.method`."""
    path, _, names = target.partition(":")
    *owners, name = names.split(".")
    owner: Any = importlib.import_module(path)
    for part in owners:
        owner = getattr(owner, part)
    return owner, name
