"""Look at one eager run of an entry: what a tracer would stumble over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from toolkit.capture.record import BOOLEAN, line_of, reader

aten = torch.ops.aten
MANY = 600
INDEXING = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default)


def stumbles(module: nn.Module, inputs: Sequence[Tensor]) -> str:
    """Return why recording should be tried before tracing; empty where tracing should do.

    Python that reads values or indexes by masks stops a tracer, and a Python loop is unrolled by
    one; a recording follows all three.

    Arguments:
        module: The entry's module.
        inputs: Its example inputs.
    """
    with _Watch() as watch, torch.no_grad(), torch.random.fork_rng():
        module(*(tensor.clone() for tensor in inputs))
    many = f"it runs {watch.count} operators" if watch.count > MANY else ""
    return str(watch.stumble) or many


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Count operators; note the first place where Python reads a value or indexes by a mask."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count, self.stumble = 0, ""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        del types
        value = func(*args, **(kwargs or {}))
        self.count += 1
        if not self.stumble:
            if isinstance(value, bool | int | float):
                self.stumble = f"Python reads a value at {line_of(reader())}"
            elif func in INDEXING and any(
                index is not None and index.dtype in BOOLEAN for index in args[1]
            ):
                self.stumble = f"a mask indexes a tensor at {line_of(reader())}"
        return value
