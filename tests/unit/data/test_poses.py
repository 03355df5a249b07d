from __future__ import annotations

import pytest
import torch

from toolkit.core.errors import UsageError
from toolkit.data.poses import Figure, dataset


def test_the_skin_is_the_figures_in_that_pose():
    data = dataset(vertices=56, betas=2, train=4, test=3)
    figure = Figure(56, 2)
    for part in (data.train, data.test):
        found = figure.posed(part["x"], part["betas"], part["translation"])
        torch.testing.assert_close(found, part["points"])
    assert data.train["points"].shape == (4, 56, 3)
    assert data.test["x"].shape == (3, 24, 3)


def test_weights_are_shares_of_near_joints():
    figure = Figure(336, 2)
    torch.testing.assert_close(figure.weights.sum(1), torch.ones(336, dtype=torch.float64))
    assert figure.weights.min() >= 0
    sides = figure.template[:, :1].sign() * figure.template[:, :1].abs().gt(0.3)
    left, right = [16, 18, 20, 22], [17, 19, 21, 23]
    assert figure.weights[sides[:, 0] > 0][:, right].max() < 1e-6
    assert figure.weights[sides[:, 0] < 0][:, left].max() < 1e-6


def test_the_figure_is_the_same_for_every_seed():
    pose, betas, translation = torch.zeros(1, 24, 3), torch.ones(1, 2), torch.zeros(1, 3)
    at_rest = [Figure(28, 2).posed(pose, betas, translation) for _ in range(2)]
    assert torch.equal(*at_rest)


@pytest.mark.parametrize("arguments", [{"vertices": 0}, {"betas": 0}, {"train": 0}, {"test": 0}])
def test_arguments_out_of_range_say_what_is_in_range(arguments):
    with pytest.raises(UsageError, match="out of range"):
        dataset(**arguments)
