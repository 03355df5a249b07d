"""What people do without the toolkit: `torch.onnx.export` with its defaults."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from toolkit.capture.capture import example, probe_outputs, quiet
from toolkit.capture.dynamo import dynamic_shapes
from toolkit.capture.module import entry_module
from toolkit.core.entry import Entry

UNEXPORTABLE = frozenset(
    {
        torch.inverse,
        torch.slogdet,
        torch.linalg.inv,
        torch.linalg.slogdet,
        torch.linalg.solve,
        torch.linalg.solve_triangular,
    }
)


def export_plain(
    model: nn.Module, entry: Entry, path: Path, *, opset: int, precompute: bool = False
) -> None:
    """Write the same entry with the same names and dynamic dimensions, by one plain call.

    Arguments:
        model: The model in evaluation mode.
        entry: The entry.
        path: The `.onnx` file.
        opset: ONNX operator-set version.
        precompute: Put constants in the place of linear algebra on weights, as people do by hand
            who meet an operator that `torch.onnx.export` does not know.
    """
    torch._dynamo.reset()  # noqa: SLF001  (else an earlier export makes this one cheaper)
    inputs: Any = tuple(example(item) for item in entry.inputs)
    module = entry_module(model, entry).eval()
    outputs = probe_outputs(model, entry, inputs)
    with quiet(), torch.no_grad():
        if precompute:
            module = Precomputed(module, inputs)
        torch.onnx.export(
            module,
            inputs,
            path,
            dynamo=True,
            opset_version=opset,
            input_names=[item.name for item in entry.inputs],
            output_names=outputs,
            dynamic_shapes=(dynamic_shapes(entry),),
            external_data=False,
            verbose=False,
        )


class Precomputed(nn.Module):
    """A module whose linear algebra on weights is answered with what it gave the first time."""

    def __init__(self, module: nn.Module, inputs: Sequence[torch.Tensor]) -> None:
        super().__init__()
        self.module = module
        with _Recorder() as recorder:
            module(*inputs)
        self.answers = recorder.answers
        self.eval()

    def forward(self, *tensors: torch.Tensor) -> Any:
        """Return what the module returns."""
        with _Player(iter(self.answers)):
            return self.module(*tensors)


class _Recorder(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.answers: list[Any] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        answer = func(*args, **(kwargs or {}))
        if func in UNEXPORTABLE:
            self.answers.append(answer)
        return answer


class _Player(TorchFunctionMode):
    def __init__(self, answers: Iterator[Any]) -> None:
        super().__init__()
        self.answers = answers

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func in UNEXPORTABLE:
            return next(self.answers)
        return func(*args, **(kwargs or {}))
