from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from toolkit.core.errors import UsageError
from toolkit.core.folder import RunFolder
from toolkit.core.recipe import load_recipe
from toolkit.data.digits import dataset
from toolkit.models.pca import PCA
from toolkit.objectives.reconstruction import objective
from toolkit.stages import train
from toolkit.stages._model import load_model


def principal(x: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the mean and the leading right singular vectors `(pixels, count)`."""
    flat = x.flatten(1).double()
    mean = flat.mean(0)
    return mean, torch.linalg.svd(flat - mean, full_matrices=False).Vh[:count].T


def largest_angle(one: Tensor, other: Tensor) -> float:
    """Return the largest principal angle between two column spaces, in degrees."""
    bases = [torch.linalg.qr(columns.double()).Q for columns in (one, other)]
    cosines = torch.linalg.svdvals(bases[0].T @ bases[1])
    return math.degrees(math.acos(min(1.0, float(cosines.min()))))


def test_gradient_descent_finds_the_subspace_of_the_singular_vectors():
    generator = torch.Generator().manual_seed(0)
    scales = torch.tensor([8.0, 6, 4, 1, 0.7, 0.5, 0.4, 0.3, 0.2])
    basis = torch.linalg.qr(torch.randn(9, 9, generator=generator)).Q
    x = (torch.randn(512, 9, generator=generator) * scales @ basis + 3).reshape(-1, 1, 3, 3)
    torch.manual_seed(0)
    model = PCA(shape=(1, 3, 3), latent=3)
    model.initialize(x)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    mean, vectors = principal(x, 3)
    assert largest_angle(model.decoder.weight.detach(), vectors) > 20
    for _ in range(1500):
        optimizer.zero_grad()
        objective(model, {"x": x})["loss"].backward()
        optimizer.step()
    assert largest_angle(model.decoder.weight.detach(), vectors) < 0.5
    with torch.no_grad():
        restored = model.reconstruct(x).flatten(1).double()
    projected = (x.flatten(1).double() - mean) @ vectors @ vectors.T + mean
    torch.testing.assert_close(restored, projected, rtol=0, atol=0.05)


def test_it_starts_at_the_mean_of_the_first_batch():
    x = torch.rand(8, 1, 8, 8)
    model = PCA()
    model.initialize(x)
    torch.testing.assert_close(model.decode(torch.zeros(1, model.latent))[0], x.mean(0))


def test_the_full_size_is_the_papers():
    model = PCA(size="full")
    assert model.encode(torch.zeros(2, 1, 28, 28)).shape == (2, 30)


@pytest.mark.parametrize("arguments", [{"size": "ful"}, {"latent": -1}, {"shape": (1, 0, 8)}])
def test_arguments_out_of_range_are_refused(arguments):
    with pytest.raises(UsageError):
        PCA(**arguments)


@pytest.mark.slow
def test_the_recipe_reaches_the_error_of_the_singular_vectors(tmp_path):
    recipe, folder = load_recipe("pca"), RunFolder(tmp_path)
    train.run(recipe, folder)
    model, data = load_model(recipe, folder), dataset()
    mean, vectors = principal(data.train["x"], model.latent)
    test = data.test["x"].flatten(1).double()
    with torch.no_grad():
        restored = model.reconstruct(data.test["x"]).flatten(1).double()
    projected = (test - mean) @ vectors @ vectors.T + mean
    psnr = [
        -10 * math.log10(float((given - test).square().mean())) for given in (restored, projected)
    ]
    assert psnr[0] == pytest.approx(psnr[1], abs=0.05)
    assert psnr[0] > 17
    assert largest_angle(model.decoder.weight.detach(), vectors) < 2
