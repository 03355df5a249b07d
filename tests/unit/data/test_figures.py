from __future__ import annotations

import pytest
import torch

from toolkit.core.errors import UsageError
from toolkit.data.figures import POINTS, dataset


def at(pictures: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Return the pixels that points lie in, `(samples, points)`."""
    cells = points.long()
    return pictures[torch.arange(len(points))[:, None], 0, cells[..., 1], cells[..., 0]]


@pytest.fixture(scope="module")
def part() -> dict[str, torch.Tensor]:
    return dict(dataset(size=64, train=64, test=8, noise=0.0).train)


def test_points_lie_on_the_figure_in_the_picture(part):
    points = part["points"]
    assert points.shape == (64, 16, 2)
    assert points.min() >= 0
    assert points.max() < 64
    assert (at(part["x"], points) > 0.45).double().mean() > 0.97


def test_with_swapped_axes_they_do_not(part):
    assert (at(part["x"], part["points"].flip(2)) > 0.45).double().mean() < 0.5


def test_left_limbs_are_brighter_than_right_ones(part):
    left, right = (
        at(part["x"], part["points"])[:, [POINTS.index(f"{side} knee")]]
        for side in ("left", "right")
    )
    assert (left >= right).double().mean() > 0.9
    assert left.mean() > right.mean() + 0.2


def test_noise_is_as_wide_as_asked(part):
    noisy = dataset(size=64, train=64, test=8, noise=0.04).train
    assert torch.equal(noisy["points"], part["points"])
    grey = (part["x"] > 0.2) & (part["x"] < 0.8)
    assert float((noisy["x"] - part["x"])[grey].std()) == pytest.approx(0.04, rel=0.05)
    assert noisy["x"].min() >= 0
    assert noisy["x"].max() <= 1


@pytest.mark.parametrize("arguments", [{"size": 0}, {"train": 0}, {"test": 0}, {"noise": -0.1}])
def test_arguments_out_of_range_say_what_is_in_range(arguments):
    with pytest.raises(UsageError, match="out of range"):
        dataset(**arguments)
