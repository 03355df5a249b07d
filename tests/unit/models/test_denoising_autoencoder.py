from __future__ import annotations

import pytest
import torch

from toolkit.core.errors import UsageError
from toolkit.core.folder import RunFolder
from toolkit.core.recipe import load_recipe
from toolkit.data.digits import dataset
from toolkit.models.denoising_autoencoder import DenoisingAutoencoder
from toolkit.objectives.reconstruction import objective
from toolkit.stages import train


def psnr(given: torch.Tensor, clean: torch.Tensor) -> float:
    return float(-10 * (given - clean).square().mean().log10())


def test_denoising_improves_the_psnr_of_noisy_digits():
    torch.manual_seed(0)
    data = dataset()
    model = DenoisingAutoencoder(hidden=(128,))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(12):
        for x in data.train["x"].split(128):
            optimizer.zero_grad()
            objective(model, {"x": x})["loss"].backward()
            optimizer.step()
    clean = data.test["x"]
    noisy = model.corrupt(clean, torch.randn_like(clean))
    with torch.no_grad():
        assert psnr(model.reconstruct(noisy), clean) > psnr(noisy, clean) + 3


def test_corruption_has_the_deviation_asked_for():
    x = torch.full((1, 1, 8, 8), 0.5)
    noise = torch.randn(1, 1, 8, 8)
    torch.testing.assert_close(
        DenoisingAutoencoder(noise=0.1).corrupt(x, noise) - x, 0.1 * noise, rtol=0, atol=1e-6
    )


def test_without_noise_it_is_given_the_clean_pictures():
    x = torch.rand(4, 1, 8, 8)
    assert torch.equal(DenoisingAutoencoder(noise=0.0).corrupt(x, torch.randn_like(x)), x)


def test_the_full_size_has_the_papers_layers():
    widths = [
        p.shape[0]
        for name, p in DenoisingAutoencoder(size="full").encoder.named_parameters()
        if name.endswith("weight")
    ]
    assert widths == [2000, 2000, 2000]


@pytest.mark.parametrize("arguments", [{"noise": -0.1}, {"size": "large"}])
def test_arguments_out_of_range_are_refused(arguments):
    with pytest.raises(UsageError):
        DenoisingAutoencoder(**arguments)


@pytest.mark.slow
def test_the_recipe_removes_three_quarters_of_the_noise(tmp_path):
    metrics = train.run(load_recipe("denoising_autoencoder"), RunFolder(tmp_path)).detail["metrics"]
    assert metrics["noisy_psnr"] == pytest.approx(12.0, abs=0.2)
    assert metrics["psnr"] > 18
