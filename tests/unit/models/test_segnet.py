from __future__ import annotations

import onnx
import pytest
import torch
from torch import nn

from toolkit.capture.capture import capture
from toolkit.core.errors import UsageError
from toolkit.core.folder import RunFolder
from toolkit.core.recipe import load_recipe
from toolkit.models.segnet import SegNet
from toolkit.stages import train

REFUSED_BY_TENSORRT = {"MaxUnpool", "NonZero", "ScatterND", "ScatterElements"}


def test_the_exported_graph_unpools_without_indices(tmp_path):
    model = SegNet(stages=((4, 1), (6, 2))).eval()
    capture(model, model.entries()[0], tmp_path / "forward.onnx")
    nodes = onnx.load(tmp_path / "forward.onnx").graph.node
    assert not REFUSED_BY_TENSORRT & {node.op_type for node in nodes}
    assert all(len(node.output) == 1 for node in nodes if node.op_type == "MaxPool")


def test_full_is_vgg_16_and_its_mirror():
    with torch.device("meta"):
        model = SegNet(size="full").eval()
        assert model(torch.zeros(1, 3, 352, 352)).shape == (1, 12, 352, 352)
    encoder = [part for part in model.encoder.modules() if isinstance(part, nn.Conv2d)]
    decoder = [part for part in model.decoder.modules() if isinstance(part, nn.Conv2d)]
    assert len(encoder) == 13
    assert len(decoder) + 1 == 14
    assert [part.out_channels for part in decoder] == [
        512, 512, 512, 512, 512, 256, 256, 256, 128, 128, 64, 64, 64,
    ]  # fmt: skip


def test_a_size_that_the_pools_do_not_divide_is_refused():
    with pytest.raises(UsageError, match="multiple of 8"):
        SegNet(size=20)


@pytest.mark.slow
def test_the_recipe_reaches_its_mean_iou(tmp_path):
    metrics = train.run(load_recipe("segnet"), RunFolder(tmp_path)).detail["metrics"]
    assert metrics["mean_iou"] > 60
