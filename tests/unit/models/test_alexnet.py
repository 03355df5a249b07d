from __future__ import annotations

import pytest
import torch

from toolkit.core.errors import UsageError
from toolkit.core.folder import RunFolder
from toolkit.core.recipe import load_recipe
from toolkit.models.alexnet import AlexNet
from toolkit.stages import train


def test_full_has_alexnets_sixty_million_parameters():
    with torch.device("meta"):
        model = AlexNet(size="full")
        features = model.features(torch.zeros(1, 3, 227, 227))
    assert features.shape == (1, 256, 6, 6)
    assert sum(item.numel() for item in model.parameters()) == 60_965_224


@pytest.mark.parametrize("size", [15, 16, 31])
def test_any_size_from_the_smallest_on_is_taken(size):
    model = AlexNet(size=size)
    assert model(torch.zeros(2, 1, size, size)).shape == (2, 10)


@pytest.mark.parametrize("size", [14, "huge"])
def test_other_sizes_are_refused(size):
    with pytest.raises(UsageError, match="size"):
        AlexNet(size=size)


def test_dropout_acts_in_training_alone():
    model = AlexNet()
    x = torch.rand(4, 1, 16, 16)
    assert not torch.equal(model(x), model(x))
    assert torch.equal(model.eval()(x), model(x))


@pytest.mark.slow
def test_the_recipe_reaches_its_accuracy(tmp_path):
    metrics = train.run(load_recipe("alexnet"), RunFolder(tmp_path)).detail["metrics"]
    assert metrics["accuracy"] > 88
