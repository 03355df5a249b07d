from __future__ import annotations

import pytest
import torch

from toolkit.core.errors import UsageError
from toolkit.data.moons import dataset


def test_the_training_part_is_standardised():
    x = dataset().train["x"]
    assert x.shape == (8192, 2)
    torch.testing.assert_close(x.mean(0), torch.zeros(2), rtol=0, atol=1e-5)
    torch.testing.assert_close(x.std(0), torch.ones(2), rtol=0, atol=1e-3)


def test_the_held_out_part_is_standardised_by_the_training_part():
    data = dataset(samples=4, test=1000)
    assert data.test["x"].mean(0).abs().max() > 1e-3


def test_without_noise_the_points_lie_on_the_half_circles():
    data = dataset(samples=100, test=10, noise=0)
    one = data.train["x"][data.train["label"] == 0].double()
    columns = torch.stack([one[:, 0] ** 2, one[:, 1] ** 2, one[:, 0], one[:, 1]], 1)
    ellipse = torch.linalg.lstsq(columns, torch.ones(len(one), 1).double()).solution
    torch.testing.assert_close(columns @ ellipse, torch.ones(len(one), 1).double())


@pytest.mark.parametrize("arguments", [{"samples": 1}, {"test": 0}, {"noise": -0.1}])
def test_arguments_out_of_range_say_what_is_in_range(arguments):
    with pytest.raises(UsageError, match="out of range"):
        dataset(**arguments)
