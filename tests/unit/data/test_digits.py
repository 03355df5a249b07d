from __future__ import annotations

import pytest
import torch

from toolkit.core.errors import UsageError
from toolkit.data.digits import dataset


def test_levels_are_sixteenths():
    data = dataset()
    levels = data.train["x"] * 16
    assert data.levels == 17
    assert data.train["x"].shape == (1437, 1, 8, 8)
    assert data.test["x"].shape == (360, 1, 8, 8)
    assert torch.equal(levels, levels.round())
    assert (levels.min(), levels.max()) == (0, 16)


def test_the_digits_are_balanced_in_the_held_out_part():
    counts = dataset().test["label"].bincount()
    assert len(counts) == 10
    assert counts.min() >= 34


def test_dequantised_values_fall_back_to_their_level():
    plain, noisy = dataset(), dataset(dequantize=True)
    for part in ("train", "test"):
        x, level = getattr(noisy, part)["x"], getattr(plain, part)["x"] * 16
        assert x.min() >= 0
        assert x.max() < 1
        wrong = ((x * 17).floor() != level).double().mean()
        assert wrong < 1e-4  # float32 rounds a noise next to 1 up to the next level


def test_the_noise_fills_a_level_evenly():
    x = dataset(dequantize=True).train["x"].double() * 17
    noise = x - x.floor()
    assert noise.mean() == pytest.approx(0.5, abs=0.01)
    assert noise.std() == pytest.approx((1 / 12) ** 0.5, abs=0.01)


def test_draws_repeat_the_training_part_with_new_noise():
    data = dataset(dequantize=True, draws=2)
    first, second = data.train["x"].chunk(2)
    assert torch.equal(*data.train["label"].chunk(2))
    assert (first - second).abs().max() <= 1 / 17 + 1e-6
    assert (first != second).double().mean() > 0.99
    assert len(data.test["x"]) == 360


def test_larger_pictures_keep_the_levels():
    data = dataset(size=28)
    levels = data.train["x"] * 16
    assert data.train["x"].shape[1:] == (1, 28, 28)
    assert torch.equal(levels, levels.round())


def test_black_and_white_digits_are_the_brighter_half():
    grey, binary = dataset(), dataset(binary=True)
    assert binary.levels == 2
    assert torch.equal(binary.train["x"], (grey.train["x"] > 0.5).float())
    with pytest.raises(UsageError, match="dequantise"):
        dataset(binary=True, dequantize=True)


@pytest.mark.parametrize("arguments", [{"test": 0}, {"test": 1797}, {"size": 0}, {"draws": 0}])
def test_arguments_out_of_range_say_what_is_in_range(arguments):
    with pytest.raises(UsageError, match="out of range"):
        dataset(**arguments)
