"""The lowerings hold under torch's default optimizer, which drops `+ 1e-9` and `* 1.000003`."""

from __future__ import annotations

import onnxruntime
import pytest
import torch

from toolkit.core.registry import lowerings
from toolkit.lowerings import table

SERIES = ("bessel", "digamma", "lgamma", "ndtri")


class Calls(torch.nn.Module):
    def __init__(self, calls):
        super().__init__()
        self.calls = calls

    def forward(self, *inputs):
        return tuple(call(*tensors) for call, tensors in zip(self.calls, inputs, strict=True))


def outputs(program, *, optimize):
    onnx = torch.onnx.export(
        program,
        dynamo=True,
        opset_version=20,
        custom_translation_table=table(),
        optimize=optimize,
        verbose=False,
    )
    session = onnxruntime.InferenceSession(
        onnx.model_proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    flat = torch.utils._pytree.tree_leaves(program.example_inputs)
    names = [item.name for item in session.get_inputs()]
    return session.run(None, {n: v.numpy() for n, v in zip(names, flat, strict=True)})


@pytest.mark.parametrize("name", SERIES)
def test_the_default_optimizer_changes_nothing(name):
    examples = lowerings.load(name).examples().values()
    torch._dynamo.reset()
    program = torch.export.export(
        Calls([item.call for item in examples]),
        tuple(item.inputs for item in examples),
        strict=False,
    )
    plain, optimized = outputs(program, optimize=False), outputs(program, optimize=True)
    for one, other in zip(plain, optimized, strict=True):
        torch.testing.assert_close(
            torch.from_numpy(other), torch.from_numpy(one), rtol=1e-14, atol=0, equal_nan=True
        )
