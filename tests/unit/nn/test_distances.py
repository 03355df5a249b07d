from __future__ import annotations

import pytest
import torch
from scipy.stats import wasserstein_distance

from toolkit.nn.distances import sliced_wasserstein


def cloud(count: int = 200, features: int = 5, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, features, generator=generator, dtype=torch.float64)


def test_in_one_dimension_it_is_the_earth_movers_distance():
    x, y = cloud(features=1), cloud(features=1, seed=1) ** 2
    expected = wasserstein_distance(x[:, 0], y[:, 0])
    assert sliced_wasserstein(x, y).item() == pytest.approx(expected, rel=1e-12)


def test_in_more_it_is_the_mean_over_directions():
    x, y = cloud(), 2 * cloud(seed=1) + 0.3
    directions = cloud(count=5, features=20_000, seed=2)
    directions /= directions.norm(dim=0)
    expected = sum(
        wasserstein_distance(x @ direction, y @ direction) for direction in directions.T[:500]
    )
    found = sliced_wasserstein(x, y, directions=20_000).item()
    assert found == pytest.approx(expected / 500, rel=0.05)


def test_a_cloud_moved_in_every_feature_is_as_far_as_it_says():
    x = cloud(features=64)
    assert sliced_wasserstein(x, x + 0.5).item() == pytest.approx(0.4, rel=0.1)


def test_the_order_of_points_does_not_matter_and_the_directions_are_fixed():
    x, y = cloud(), cloud(seed=1)
    found = sliced_wasserstein(x, y)
    torch.testing.assert_close(sliced_wasserstein(x.flip(0), y), found)
    assert sliced_wasserstein(x, x.flip(0)).item() == pytest.approx(0, abs=1e-12)
    torch.manual_seed(1)
    assert torch.equal(sliced_wasserstein(x, y), found)
