"""The published dimensions of the models of pictures export, and answer as eager does."""

from __future__ import annotations

import onnxruntime
import pytest
import torch

from toolkit.capture.capture import capture
from toolkit.core import registry

NAMES = (
    "perceptron",
    "mlp",
    "hmax",
    "lenet",
    "alexnet",
    "vgg",
    "googlenet",
    "resnet",
    "fcn",
    "segnet",
    "unet",
)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_published_size_exports(name, tmp_path):
    torch.manual_seed(0)
    model = registry.models.load(name)(size="full").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1e-3 * torch.randn_like(parameter))
    (entry,) = model.entries()
    path = tmp_path / "forward.onnx"
    capture(model, entry, path)
    x = entry.inputs[0].value[:1]
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    logits = torch.from_numpy(session.run(["logits"], {"x": x.numpy()})[0])
    with torch.no_grad():
        expected = model(x)
    assert (logits - expected).abs().max() <= 1e-4 * expected.abs().max()
