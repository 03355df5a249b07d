from pathlib import Path

import pytest
import torch
from torch import nn

from toolkit.backends import _torch
from toolkit.backends.eager import backend
from toolkit.core.errors import UsageError
from toolkit.core.protocols import Artifact
from toolkit.core.signature import Signature, TensorSpec

SIGNATURE = Signature(
    "forward",
    "",
    (TensorSpec("x", "float32", ("batch", 2)),),
    (TensorSpec("y", "float32", ("batch", 2)),),
)


class Watched(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.seen = []

    def forward(self, x):
        self.seen.append((torch.is_inference_mode_enabled(), torch.get_num_threads()))
        return x * self.weight


def open_watched(threads=1):
    module = Watched()
    artifact = Artifact(Path("none"), SIGNATURE, "fp32", module=lambda: module)
    return module, backend.open(artifact, threads=threads)


def test_runs_in_inference_mode_on_the_asked_threads():
    before = torch.get_num_threads()
    module, runner = open_watched(threads=before + 1)
    runner.prepare({"x": torch.ones(1, 2).numpy()})()
    assert module.seen == [(True, before + 1)]
    runner.close()
    assert torch.get_num_threads() == before


def test_without_a_model_it_says_so():
    with pytest.raises(UsageError, match="no model to run"):
        backend.open(Artifact(Path("x.onnx"), SIGNATURE, "fp32"))


def test_another_device_gets_a_copy():
    module = Watched()
    moved = _torch._placed(module, torch.device("meta"))
    assert moved.weight.device.type == "meta"
    assert module.weight.device.type == "cpu"
    assert _torch._placed(module, torch.device("cpu")) is module


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_an_absent_device_is_named():
    assert "no CUDA device" in backend.absent(device="cuda")


def test_a_device_beyond_the_last_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert backend.absent(device="cuda:0") == ""
    assert "no cuda:1 here: torch sees 1" in backend.absent(device="cuda:1")
