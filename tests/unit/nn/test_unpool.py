from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from toolkit.nn.unpool import max_pool_with_places, max_unpool


def test_they_are_torchs_pool_and_unpool():
    torch.manual_seed(0)
    x, y = torch.randn(2, 3, 8, 6), torch.randn(2, 3, 4, 3)
    largest, places = max_pool_with_places(x)
    expected, indices = F.max_pool2d(x, 2, return_indices=True)
    assert torch.equal(largest, expected)
    assert torch.equal(max_unpool(y, places), F.max_unpool2d(y, indices, 2))


@pytest.mark.parametrize("corner", [0, 1, 2, 3])
def test_of_equal_pixels_the_first_is_remembered(corner):
    x = torch.zeros(4)
    x[corner:] = 1
    _, places = max_pool_with_places(x.reshape(1, 1, 2, 2))
    assert places.flatten().nonzero().tolist() == [[corner]]


def test_every_window_remembers_one_place():
    _, places = max_pool_with_places(torch.randn(2, 3, 8, 6).relu())
    assert torch.equal(F.avg_pool2d(places, 2), torch.full((2, 3, 4, 3), 0.25))
