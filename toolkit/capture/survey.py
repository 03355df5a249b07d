"""Look at one eager run of an entry: what a tracer would stumble over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from toolkit.capture.record import BOOLEAN, line_of, reader

aten = torch.ops.aten
MANY = 600
INDEXING = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default)


@dataclass(frozen=True, slots=True)
class Stumbles:
    """What a tracer would stumble over.

    Arguments:
        read: The line where Python reads a value out of a tensor; empty without one. A tracer
            stops there, or follows one side of the branch for ever.
        masked: The line where a mask indexes a tensor; empty without one.
        operators: How many operators run.
    """

    read: str
    masked: str
    operators: int

    def __str__(self) -> str:
        if self.read:
            return f"Python reads a value at {self.read}"
        if self.masked:
            return f"a mask indexes a tensor at {self.masked}"
        return f"it runs {self.operators} operators" if self.operators > MANY else ""

    def __bool__(self) -> bool:
        """Whether recording should be tried before tracing."""
        return bool(str(self))


def stumbles(module: nn.Module, inputs: Sequence[Tensor]) -> Stumbles:
    """Run an entry once in eager and return what a tracer would stumble over.

    Arguments:
        module: The entry's module.
        inputs: Its example inputs.
    """
    with _Watch() as watch, torch.no_grad(), torch.random.fork_rng():
        module(*(tensor.clone() for tensor in inputs))
    return Stumbles(watch.read, watch.masked, watch.count)


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Count operators; note the first lines that read a value and that index by a mask."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count, self.read, self.masked = 0, "", ""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        del types
        value = func(*args, **(kwargs or {}))
        self.count += 1
        if isinstance(value, bool | int | float):
            self.read = self.read or line_of(reader())
        elif func in INDEXING and any(
            index is not None and index.dtype in BOOLEAN for index in args[1]
        ):
            self.masked = self.masked or line_of(reader())
        return value
