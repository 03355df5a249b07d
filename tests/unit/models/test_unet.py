from __future__ import annotations

import onnxruntime
import pytest
import torch
from torch import nn

from toolkit.capture.capture import capture
from toolkit.core.errors import UsageError
from toolkit.core.folder import RunFolder
from toolkit.core.recipe import load_recipe
from toolkit.models.unet import UNet
from toolkit.stages import train


def test_the_exported_graph_takes_other_heights_and_widths(tmp_path):
    torch.manual_seed(0)
    model = UNet(width=4).eval()
    path = tmp_path / "forward.onnx"
    capture(model, model.entries()[0], path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for shape in ((1, 1, 24, 24), (2, 1, 8, 8), (3, 1, 16, 40)):
        x = torch.rand(shape)
        (logits,) = session.run(None, {"x": x.numpy()})
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(logits), model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("depth", [1, 3])
def test_labels_cover_the_whole_picture(depth):
    model = UNet(width=2, depth=depth)
    assert model(torch.rand(2, 1, 8, 16)).shape == (2, 11, 8, 16)


def test_full_has_the_published_layers():
    with torch.device("meta"):
        model = UNet(size="full")
    layers = [part for part in model.modules() if isinstance(part, nn.Conv2d | nn.ConvTranspose2d)]
    assert len(layers) == 23
    assert max(part.out_channels for part in layers) == 1024


def test_a_size_that_the_pools_do_not_divide_is_refused():
    with pytest.raises(UsageError, match="multiple of 8"):
        UNet(size=22)


@pytest.mark.slow
def test_the_recipe_reaches_its_mean_iou(tmp_path):
    metrics = train.run(load_recipe("unet"), RunFolder(tmp_path)).detail["metrics"]
    assert metrics["mean_iou"] > 78
