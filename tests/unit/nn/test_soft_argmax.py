from __future__ import annotations

import pytest
import torch

from toolkit.nn.soft_argmax import heat_maps, mean_places


def bells(places: torch.Tensor, height: int, width: int, sigma: float = 1.2) -> torch.Tensor:
    """Return scores whose heat maps are bells about places `(batch, maps, 2)`, x first."""
    x, y = torch.arange(width) + 0.5, torch.arange(height) + 0.5
    across = (x - places[..., :1]).square()[..., None, :]
    down = (y - places[..., 1:]).square()[..., :, None]
    return -(across + down) / (2 * sigma**2)


@pytest.fixture
def places() -> torch.Tensor:
    draws = torch.Generator().manual_seed(0)
    return 6 + torch.rand(4, 5, 2, generator=draws) * torch.tensor([18.0, 4.0])


def test_planted_places_are_met_far_below_a_cell(places):
    found = mean_places(heat_maps(bells(places, 16, 30)))
    torch.testing.assert_close(found, places, rtol=0, atol=1e-3)


def test_swapped_axes_are_far_off(places):
    found = mean_places(heat_maps(bells(places.flip(2), 30, 16)))
    assert (found - places).norm(dim=2).mean() > 3


def test_maps_are_probabilities_and_the_sharpest_one_is_its_cell():
    scores = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(heat_maps(scores).sum((2, 3)), torch.ones(2, 3))
    scores[..., 1, 3] = 1e4
    expected = torch.tensor([3.5, 1.5]).expand(2, 3, 2)
    torch.testing.assert_close(mean_places(heat_maps(scores)), expected)
