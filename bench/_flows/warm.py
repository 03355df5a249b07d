"""Importing this does once what every measured process would otherwise pay for first.

The first call of `torch.onnx.export` in a process takes some three seconds of imports, the same
for every contestant.
"""

from __future__ import annotations

import onnxruntime
import torch

import toolkit.checks.parity
import toolkit.stages._entries
import toolkit.stages._open
import toolkit.stages.export
from toolkit.capture.capture import quiet

__all__ = ["onnxruntime", "toolkit"]

torch.set_num_threads(1)
with quiet():
    torch.onnx.export(
        torch.nn.Linear(2, 2).eval(),
        (torch.zeros(4, 2),),
        dynamo=True,
        dynamic_shapes=({0: "batch"},),
        verbose=False,
    )
