from __future__ import annotations

import pytest
import torch
from torch import nn

from toolkit.core.errors import UsageError
from toolkit.core.folder import RunFolder
from toolkit.core.recipe import load_recipe
from toolkit.models.autoencoder import Autoencoder
from toolkit.stages import train


def test_the_decoder_mirrors_the_encoder():
    model = Autoencoder(size="full")
    sizes = [
        [(layer.in_features, layer.out_features) for layer in part.modules() if is_linear(layer)]
        for part in (model.encoder, model.decoder)
    ]
    assert sizes[0] == [(784, 1000), (1000, 500), (500, 250), (250, 30)]
    assert sizes[1] == [(after, before) for before, after in reversed(sizes[0])]


def is_linear(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Linear)


def test_reconstructing_is_decoding_the_code():
    model = Autoencoder(hidden=(8,), latent=3)
    x = torch.rand(2, 1, 8, 8)
    assert model.encode(x).shape == (2, 3)
    assert torch.equal(model.reconstruct(x), model.decode(model.encode(x)))
    assert model.reconstruct(x).shape == x.shape


def test_decoded_pixels_lie_between_black_and_white():
    pictures = Autoencoder().decode(100 * torch.randn(16, 16))
    assert pictures.min() >= 0
    assert pictures.max() <= 1


@pytest.mark.parametrize("arguments", [{"size": "big"}, {"hidden": (0,)}, {"latent": -2}])
def test_arguments_out_of_range_are_refused(arguments):
    with pytest.raises(UsageError):
        Autoencoder(**arguments)


@pytest.mark.slow
def test_the_recipe_restores_better_than_as_many_principal_components(tmp_path):
    from sklearn.decomposition import PCA

    from toolkit.data.digits import dataset

    recipe = load_recipe("autoencoder")
    metrics = train.run(recipe, RunFolder(tmp_path)).detail["metrics"]
    data = dataset()
    flat = {part: getattr(data, part)["x"].flatten(1).numpy() for part in ("train", "test")}
    pca = PCA(16).fit(flat["train"])
    restored = torch.from_numpy(pca.inverse_transform(pca.transform(flat["test"])))
    psnr = -10 * (restored - data.test["x"].flatten(1)).square().mean().log10()
    assert metrics["psnr"] > psnr + 1.5
    assert metrics["psnr"] > 21
