from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from toolkit.objectives.reconstruction import objective


class Constant(nn.Module):
    """Restore one grey everywhere."""

    def reconstruct(self, x: Tensor) -> Tensor:
        return torch.full_like(x, 0.5)


class Noisy(nn.Module):
    """Give back what it is given, which is the picture plus noise."""

    def corrupt(self, x: Tensor, noise: Tensor) -> Tensor:
        return x + 0.1 * noise

    def reconstruct(self, x: Tensor) -> Tensor:
        return x


def test_the_loss_is_summed_over_pixels_and_the_psnr_is_in_decibels():
    values = objective(Constant(), {"x": torch.full((3, 1, 4, 4), 0.6)})
    assert values["loss"].item() == pytest.approx(16 * 0.01, rel=1e-5)
    assert values["psnr"].item() == pytest.approx(20, rel=1e-5)
    assert "noisy_psnr" not in values


def test_a_corrupting_model_is_held_against_the_clean_pictures():
    values = objective(Noisy(), {"x": torch.rand(64, 1, 16, 16)})
    assert values["psnr"] == values["noisy_psnr"]
    assert values["psnr"].item() == pytest.approx(20, abs=0.3)


def test_a_perfect_reconstruction_is_finite():
    values = objective(Constant(), {"x": torch.full((1, 1, 2, 2), 0.5)})
    assert values["loss"] == 0
    assert values["psnr"].item() == pytest.approx(120)
