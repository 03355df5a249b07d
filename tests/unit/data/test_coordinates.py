from __future__ import annotations

import pytest
import torch

from toolkit.core.errors import UsageError
from toolkit.data.coordinates import dataset, grid, square

WHOLE = {"photo": "flower", "size": 16, "top": 50, "left": 200, "shrink": 2}


def test_points_and_colours_are_those_of_the_pixels():
    data = dataset(**WHOLE)
    picture = square(**WHOLE)
    for part in (data.train, data.test):
        rows, columns = ((part["x"] + 1) / 2 * 16 - 0.5).round().long().T
        assert torch.equal(part["value"], picture[rows, columns])


def test_a_regular_quarter_is_held_out():
    data = dataset(**WHOLE)
    assert len(data.test["x"]) == 64
    assert torch.equal(data.test["x"], grid(16).reshape(16, 16, 2)[::2, ::2].reshape(-1, 2))


def test_seeds_hold_out_each_quarter_in_turn():
    held = torch.cat([dataset(**WHOLE, seed=seed).test["x"] for seed in range(4)])
    assert len(held.unique(dim=0)) == 16 * 16


def test_points_are_the_centres_of_pixels():
    assert grid(2).tolist() == [[-0.5, -0.5], [-0.5, 0.5], [0.5, -0.5], [0.5, 0.5]]


def test_shrinking_averages_pixels():
    fine = square(**{**WHOLE, "size": 32, "shrink": 1})
    mean = fine.reshape(16, 2, 16, 2, 3).mean((1, 3))
    torch.testing.assert_close(square(**WHOLE), mean)


@pytest.mark.parametrize(
    "arguments", [{"photo": "cat"}, {"size": 15}, {"top": 400}, {"left": -1}, {"shrink": 0}]
)
def test_arguments_out_of_range_say_what_is_in_range(arguments):
    with pytest.raises(UsageError, match="out of range"):
        dataset(**arguments)
