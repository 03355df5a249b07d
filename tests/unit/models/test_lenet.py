from __future__ import annotations

import pytest
import torch

from toolkit.core.errors import UsageError
from toolkit.core.folder import RunFolder
from toolkit.core.recipe import load_recipe
from toolkit.models.lenet import LeNet
from toolkit.stages import train

SHAPES = [
    {},
    {"kernel": 5, "padding": 0},
    {"stride": 2, "padding": 2},
    {"dilation": 2, "padding": 2},
    {"kernel": 2, "stride": 2, "padding": 1, "dilation": 3},
]


@pytest.mark.parametrize("shape", SHAPES)
def test_any_stride_padding_and_dilation_fits_the_linear_layers(shape):
    model = LeNet(size=24, **shape)
    (entry,) = model.entries()
    assert model(entry.inputs[0].value).shape == (4, 10)


def test_a_kernel_larger_than_the_picture_is_refused():
    with pytest.raises(UsageError, match="does not fit"):
        LeNet(size=8, kernel=5, padding=0)


def test_full_has_lenet_5s_layers():
    model = LeNet(size="full")
    assert model.features(torch.zeros(1, 1, 32, 32)).shape == (1, 16, 5, 5)
    # The paper's second convolution leaves connections out; its other layers are these.
    assert sum(item.numel() for item in model.features[0].parameters()) == 156
    assert sum(item.numel() for item in model.head[0].parameters()) == 48_120
    assert sum(item.numel() for item in model.head[2].parameters()) == 10_164


@pytest.mark.slow
def test_the_recipe_reaches_its_accuracy(tmp_path):
    metrics = train.run(load_recipe("lenet"), RunFolder(tmp_path)).detail["metrics"]
    assert metrics["accuracy"] > 95
