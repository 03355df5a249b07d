from __future__ import annotations

import onnxruntime
import pytest
import torch

from toolkit.capture.capture import capture
from toolkit.core.errors import UsageError
from toolkit.core.folder import RunFolder
from toolkit.core.recipe import load_recipe
from toolkit.models.fcn import FCN
from toolkit.stages import train

KINDS = ("nearest", "bed_of_nails", "transposed")
SMALL = {"stages": ((4, 1), (6, 1), (8, 1)), "hidden": 8}


@pytest.mark.parametrize("upsampling", KINDS)
def test_the_exported_graph_takes_any_height_and_width(upsampling, tmp_path):
    torch.manual_seed(0)
    model = FCN(upsampling=upsampling, **SMALL).eval()
    path = tmp_path / "forward.onnx"
    capture(model, model.entries()[0], path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for shape in ((1, 1, 24, 24), (2, 1, 1, 1), (3, 1, 17, 40), (1, 1, 8, 5)):
        x = torch.rand(shape)
        (logits,) = session.run(None, {"x": x.numpy()})
        assert logits.shape == (shape[0], 11, *shape[2:])
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(logits), model(x), rtol=1e-4, atol=1e-5)


def test_the_upsampling_is_chosen_by_an_argument():
    models = [FCN(upsampling=kind, **SMALL) for kind in KINDS]
    assert len({str(model.ups) for model in models}) == len(KINDS)


def test_full_is_fcn_8s_on_vgg_16():
    with torch.device("meta"):
        model = FCN(size="full").eval()
        assert model(torch.zeros(1, 3, 500, 333)).shape == (1, 21, 500, 333)
    assert [skip.in_channels for skip in model.skips] == [512, 256]
    assert [up.stride[0] for up in model.ups] == [2, 2, 8]
    assert [part.kernel_size[0] for part in model.head[::2]] == [7, 1, 1]


def test_too_few_stages_are_refused():
    with pytest.raises(UsageError, match="stages"):
        FCN(stages=((4, 1), (6, 1)))


@pytest.mark.slow
def test_the_recipe_reaches_its_mean_iou(tmp_path):
    metrics = train.run(load_recipe("fcn"), RunFolder(tmp_path)).detail["metrics"]
    assert metrics["mean_iou"] > 73
