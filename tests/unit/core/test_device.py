import pytest
import torch

from toolkit.core.device import resolve
from toolkit.core.errors import UsageError


@pytest.mark.parametrize(
    ("device", "providers", "expected"),
    [
        ("cpu", ["cpu"], "cpu"),
        ("cuda:1", ["cpu"], "cuda:1"),
        ("cpu", ["openvino", "cpu"], "cpu"),
        ("cpu", ["cuda", "cpu"], "cuda"),
        ("auto", ["TensorrtExecutionProvider"], "cuda"),
        ("cuda:1", ["tensorrt", "cuda"], "cuda:1"),
    ],
)
def test_a_provider_for_cuda_takes_the_run_there(device, providers, expected):
    assert resolve(device, providers) == expected


@pytest.mark.parametrize("present", [True, False])
def test_auto_is_what_torch_sees(monkeypatch, present):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: present)
    assert resolve("auto", ["cpu"]) == ("cuda" if present else "cpu")


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "CPU", ""])
def test_an_unknown_device_is_refused(device):
    with pytest.raises(UsageError, match="there is no device"):
        resolve(device, ["cpu"])
