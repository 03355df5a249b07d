from __future__ import annotations

import pytest
import torch
from torch import nn

from toolkit.core.errors import UsageError
from toolkit.core.folder import RunFolder
from toolkit.core.recipe import load_recipe
from toolkit.models.vgg import VGG
from toolkit.stages import train


def test_full_has_the_sixteen_layers_and_parameters_of_configuration_d():
    with torch.device("meta"):
        model = VGG(size="full")
    layers = [part for part in model.modules() if isinstance(part, nn.Conv2d | nn.Linear)]
    assert len(layers) == 16
    assert sum(item.numel() for item in model.parameters()) == 138_357_544


def test_batch_normalisation_is_an_option():
    def norms(model: VGG) -> int:
        return sum(isinstance(part, nn.BatchNorm2d) for part in model.modules())

    assert norms(VGG()) == 7
    assert norms(VGG(batch_norm=False)) == 0


def test_a_size_that_the_pools_do_not_divide_is_refused():
    with pytest.raises(UsageError, match="multiple of 8"):
        VGG(size=20)


@pytest.mark.slow
def test_the_recipe_reaches_its_accuracy(tmp_path):
    metrics = train.run(load_recipe("vgg"), RunFolder(tmp_path)).detail["metrics"]
    assert metrics["accuracy"] > 97
