"""What people do without the toolkit: `torch.onnx.export` with its defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from toolkit.capture import entry_module, probe_outputs
from toolkit.capture.capture import example, quiet
from toolkit.capture.dynamo import dynamic_shapes
from toolkit.core.entry import Entry


def export_plain(model: nn.Module, entry: Entry, path: Path, *, opset: int) -> None:
    """Write the same entry with the same names and dynamic dimensions, by one plain call."""
    torch._dynamo.reset()  # noqa: SLF001  (else an earlier export makes this one cheaper)
    inputs: Any = tuple(example(item) for item in entry.inputs)
    with quiet(), torch.no_grad():
        torch.onnx.export(
            entry_module(model, entry).eval(),
            inputs,
            path,
            dynamo=True,
            opset_version=opset,
            input_names=[item.name for item in entry.inputs],
            output_names=probe_outputs(model, entry, inputs),
            dynamic_shapes=(dynamic_shapes(entry),),
            external_data=False,
            verbose=False,
        )
