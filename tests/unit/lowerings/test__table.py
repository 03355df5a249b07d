import subprocess
import sys
import types
from importlib.metadata import EntryPoint

import numpy as np
import onnxruntime
import pytest
import torch

import toolkit
from toolkit.core import registry
from toolkit.core.errors import UsageError
from toolkit.lowerings import table

AIRY = torch.ops.aten.special_airy_ai.default


def plug_in(monkeypatch, operators):
    """Install a plug-in that claims to translate the operators."""

    def translation(self):
        return self

    module = types.ModuleType("someones_package")
    module.lowering = lambda: dict.fromkeys(operators, translation)
    monkeypatch.setitem(sys.modules, "someones_package", module)
    point = EntryPoint("someones", "someones_package:lowering", "toolkit.lowerings")
    found = {"toolkit.lowerings": [point]}
    monkeypatch.setattr(registry, "entry_points", lambda group: found.get(group, []))
    return translation


def test_plug_ins_are_in_the_table(monkeypatch):
    assert AIRY not in table()
    translation = plug_in(monkeypatch, [AIRY])
    assert table()[AIRY] is translation
    assert torch.ops.aten.cumprod.default in table()


def test_two_lowerings_of_one_operator_are_refused_by_name(monkeypatch):
    plug_in(monkeypatch, [torch.ops.aten.cumprod.default])
    with pytest.raises(UsageError, match=r"two lowerings translate aten\.cumprod") as raised:
        table()
    assert raised.value.where == "cumprod and someones"


def test_the_table_serves_torchs_exporter_alone():
    class Bins(torch.nn.Module):
        def forward(self, x):
            return torch.bucketize(x, torch.tensor([0.0, 1.0]))

    x = torch.tensor([-1.0, 0.5, 3.0])
    exported = torch.onnx.export(
        Bins().eval(),
        (x,),
        dynamo=True,
        custom_translation_table=toolkit.lowerings.table(),
        verbose=False,
    )
    session = onnxruntime.InferenceSession(exported.model_proto.SerializeToString())
    (bins,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    assert np.array_equal(bins, [0, 1, 2])


def test_naming_the_lowerings_imports_neither_torch_nor_onnx():
    code = "import sys, toolkit; toolkit.lowerings; print({'torch', 'onnx'} & set(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "set()"


def test_export_takes_an_operator_that_torch_lacks(tmp_path):
    class Stretch(torch.nn.Module):
        def forward(self, x):
            return torch.erfinv(torch.tanh(x))

    x = torch.rand(6, 3, generator=torch.Generator().manual_seed(0))
    entry = toolkit.Entry("forward", inputs=[toolkit.Input("x", x, dims=("batch", None))])
    exported = toolkit.export(Stretch(), [entry], tmp_path)["forward"]
    assert exported.outcome.ok, exported.outcome.reason
    assert exported.detail["strategy"] == "dynamo"
