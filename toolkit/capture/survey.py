"""Look at one eager run of an entry: what a tracer would stumble over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from toolkit.capture.record import BOOLEAN, line_of, reader
from toolkit.capture.segments import find_runs
from toolkit.nn.iterate import State, Step, heard_by

aten = torch.ops.aten
INDEXING = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default)
REPEATED = 200
"""A tracer takes a loop that repeats more operators longer than its recording does."""


@dataclass(frozen=True, slots=True)
class Stumbles:
    """What a tracer would stumble over.

    Arguments:
        read: The line where Python reads a value out of a tensor; empty without one. A tracer
            stops there, or follows one side of the branch for ever.
        masked: The line where a mask indexes a tensor; empty without one.
        repeated: How many operators a Python loop runs again, on the same parameters.
    """

    read: str
    masked: str
    repeated: int

    def __str__(self) -> str:
        if self.read:
            return f"Python reads a value at {self.read}"
        if self.masked:
            return f"a mask indexes a tensor at {self.masked}"
        return f"a loop repeats {self.repeated} operators" if self.repeated > REPEATED else ""

    def __bool__(self) -> bool:
        """Whether recording should be tried before tracing."""
        return bool(str(self))


def stumbles(module: nn.Module, inputs: Sequence[Tensor]) -> Stumbles:
    """Run an entry once in eager and return what a tracer would stumble over.

    Arguments:
        module: The entry's module.
        inputs: Its example inputs.
    """
    own = {id(tensor) for tensor in (*module.parameters(), *module.buffers())}
    watch = _Watch(own)
    with heard_by(watch.declared), watch, torch.no_grad(), torch.random.fork_rng():
        module(*(tensor.clone() for tensor in inputs))
    runs = find_runs(watch.codes)
    found = [run.end - run.start - run.period for run in runs]
    repeated = max([*found, watch.repeated])
    return Stumbles(watch.read, watch.masked, repeated)


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Note the first lines that read a value and that index by a mask, and every operator.

    Arguments:
        own: Identities of the parameters and buffers: steps on others are no repetition.
    """

    supports_higher_order_operators = True

    def __init__(self, own: set[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.own, self.read, self.masked = own, "", ""
        self.codes: list[int] = []
        self.repeated = 0
        self._known: dict[Any, int] = {}

    def declared(self, step: Step, count: int, state: State) -> State:
        """Take one step of a loop that says that it is one, and note how much it repeats."""
        before = len(self.codes)
        state = step(*state)
        self.repeated = max(self.repeated, (count - 1) * (len(self.codes) - before))
        return state

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        del types
        value = func(*args, **(kwargs or {}))
        operands = tuple(
            id(item) if id(item) in self.own else tuple(item.shape)
            for item in args
            if isinstance(item, Tensor)
        )
        self.codes.append(self._known.setdefault((func, operands), len(self._known)))
        if isinstance(value, bool | int | float):
            self.read = self.read or line_of(reader())
        elif func in INDEXING and any(
            index is not None and index.dtype in BOOLEAN for index in args[1]
        ):
            self.masked = self.masked or line_of(reader())
        return value
