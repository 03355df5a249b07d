from __future__ import annotations

import pytest
from sklearn.datasets import load_digits

from toolkit.core.errors import UsageError
from toolkit.data.captioned_digits import LETTERS, NAMES, dataset


def test_every_picture_has_the_name_of_its_digit():
    pixels, labels = load_digits(return_X_y=True)
    digit = {row.tobytes(): int(label) for row, label in zip(pixels, labels, strict=True)}
    data = dataset()
    for part in (data.train, data.test):
        for x, target in zip(part["x"], part["target"], strict=True):
            name = "".join(LETTERS[token] for token in target)
            assert name == NAMES[digit[(x.double() * 16).numpy().tobytes()]]


def test_names_end_with_a_blank():
    assert (dataset().train["target"][:, -1] == 0).all()


@pytest.mark.parametrize("test", [9, 1790])
def test_a_part_too_small_or_too_large_is_an_error(test):
    with pytest.raises(UsageError, match="out of range"):
        dataset(test=test)
