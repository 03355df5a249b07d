from __future__ import annotations

import pytest
import torch
from torch import nn

from toolkit.models.resnet import ResNet
from toolkit.nn.residual import ResidualBlock


def test_the_defaults_are_the_eighteen_layers_of_resnet_18():
    convolutions = [
        part
        for part in ResNet().modules()
        if isinstance(part, nn.Conv2d) and part.kernel_size == (3, 3)
    ]
    assert len(convolutions) + 1 == 18
    assert sum(isinstance(part, ResidualBlock) for part in ResNet().modules()) == 8


def test_at_width_64_it_has_resnet_18s_parameters_apart_from_the_stem():
    model = ResNet(width=64, classes=1000, channels=3)
    stem = sum(parameter.numel() for parameter in model.stem.parameters())
    imagenet_stem = 64 * 3 * 7 * 7 + 2 * 64
    total = sum(parameter.numel() for parameter in model.parameters())
    assert total - stem == 11_689_512 - imagenet_stem


def test_full_is_resnet_18():
    with torch.device("meta"):
        model = ResNet(size="full").eval()
        assert model.stages(model.stem(torch.zeros(1, 3, 224, 224))).shape == (1, 512, 7, 7)
    assert sum(parameter.numel() for parameter in model.parameters()) == 11_689_512


@pytest.mark.parametrize("size", [8, 28])
def test_the_example_has_the_size_asked_for(size):
    model = ResNet(size=size, width=4).eval()
    (entry,) = model.entries()
    assert entry.inputs[0].value.shape[1:] == (1, size, size)
    assert model(entry.inputs[0].value).shape == (4, 10)


def test_fewer_stages_are_possible():
    assert ResNet(width=4, blocks=(1, 1))(torch.randn(2, 1, 8, 8)).shape == (2, 10)
