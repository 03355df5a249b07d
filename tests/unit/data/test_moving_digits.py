from __future__ import annotations

import itertools

import pytest
import torch

from toolkit.core.errors import UsageError
from toolkit.data.moving_digits import DIRECTIONS, dataset


def test_every_frame_is_the_one_before_moved_in_the_labels_direction():
    part = dataset(test=64).test
    for film, label in zip(part["x"], part["label"], strict=True):
        for before, after in itertools.pairwise(film):
            assert torch.equal(after, before.roll(DIRECTIONS[int(label)], (1, 2)))


def test_no_ink_leaves_the_picture():
    films = dataset(test=64, frames=9, size=16).test["x"]
    ink = films.sum((2, 3, 4))
    torch.testing.assert_close(ink, ink[:, :1].expand_as(ink))


def test_each_direction_and_its_reverse_use_the_same_places():
    part = dataset(test=1700, frames=6, size=16).test
    mean = torch.stack([part["x"][part["label"] == n].sum((1, 2)).mean(0) for n in range(8)])
    for direction in range(4):
        torch.testing.assert_close(mean[direction], mean[direction + 4], rtol=0, atol=0.6)


@pytest.mark.parametrize("arguments", [{"size": 12}, {"frames": 0}, {"test": 0}, {"test": 1797}])
def test_arguments_out_of_range_say_what_is_in_range(arguments):
    with pytest.raises(UsageError, match="out of range"):
        dataset(**arguments)
