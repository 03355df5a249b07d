from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_images

from toolkit.core.errors import UsageError
from toolkit.data.photos import dataset


def test_patches_are_squares_of_the_photographs():
    data = dataset(size=61)
    palace, flower = load_sample_images().images
    corner = {0: palace[:61, :61], 1: flower[:61, :61]}
    both = {key: torch.cat([data.train[key], data.test[key]]) for key in ("x", "label")}
    bytes_ = (both["x"] * 255).round().numpy().astype(np.uint8).transpose(0, 2, 3, 1)
    for label, square in corner.items():
        found = [(patch == square).all() for patch in bytes_[(both["label"] == label).numpy()]]
        assert sum(found) == 1
    assert len(both["x"]) == 2 * (427 // 61) * (640 // 61)


def test_grey_patches_weigh_the_colours():
    colour, grey = dataset(size=100, test=4), dataset(size=100, test=4, grey=True)
    assert grey.train["x"].shape[1:] == (1, 100, 100)
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    expected = (colour.train["x"] * weights).sum(1, keepdim=True)
    torch.testing.assert_close(grey.train["x"], expected, rtol=0, atol=0.51 / 255)


def test_dequantised_values_fall_back_to_their_level():
    plain, noisy = dataset(size=64), dataset(size=64, dequantize=True)
    wrong = (noisy.train["x"] * 256).floor() != (plain.train["x"] * 255).round()
    assert wrong.double().mean() < 1e-3


def test_each_draw_has_noise_of_its_own():
    once, twice = (dataset(size=64, dequantize=True, draws=draws) for draws in (1, 2))
    count = len(once.train["x"])
    assert len(twice.train["x"]) == 2 * count
    assert len(twice.test["x"]) == len(once.test["x"])
    assert torch.equal(twice.train["label"][:count], twice.train["label"][count:])
    change = twice.train["x"][:count] - twice.train["x"][count:]
    assert 0 < change.abs().max() <= 1 / 256 + 1e-6


@pytest.mark.parametrize(
    "arguments", [{"size": 0}, {"size": 500}, {"test": -1}, {"test": 10_000}, {"draws": 0}]
)
def test_arguments_out_of_range_are_refused(arguments):
    with pytest.raises(UsageError):
        dataset(**arguments)
