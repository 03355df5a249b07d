from __future__ import annotations

import pytest
import torch

from toolkit.core.errors import UsageError
from toolkit.data.scenes import dataset


def test_ink_and_labels_lie_at_the_same_pixels():
    data = dataset(train=64, test=32)
    for part in (data.train, data.test):
        assert part["x"].shape[1:] == (1, 24, 24)
        assert part["label"].shape[1:] == (24, 24)
        assert torch.equal(part["x"][:, 0] >= 4 / 16, part["label"] > 0)
        assert torch.equal(part["x"] * 16, (part["x"] * 16).round())
    assert set(data.train["label"].unique().tolist()) == set(range(11))


def test_one_digit_gives_one_label_besides_the_background():
    labels = dataset(digits=1, train=32, test=16).train["label"]
    assert all(len(scene.unique()) == 2 for scene in labels)


def test_the_size_and_the_counts_are_as_asked():
    data = dataset(size=8, digits=1, train=5, test=3)
    assert data.train["x"].shape == (5, 1, 8, 8)
    assert data.test["label"].shape == (3, 8, 8)


@pytest.mark.parametrize("arguments", [{"size": 7}, {"digits": 0}, {"train": 0}, {"test": 0}])
def test_arguments_out_of_range_say_what_is_in_range(arguments):
    with pytest.raises(UsageError, match="out of range"):
        dataset(**arguments)
