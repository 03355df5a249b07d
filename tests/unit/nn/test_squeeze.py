from __future__ import annotations

import torch

from toolkit.nn.squeeze import Squeeze


def test_a_square_of_pixels_becomes_the_channels_of_one():
    x = torch.arange(16.0).view(1, 1, 4, 4)
    y, log_det = Squeeze()(x)
    assert y.shape == (1, 4, 2, 2)
    assert y[0, :, 0, 0].tolist() == [0, 1, 4, 5]
    assert log_det.tolist() == [0]


def test_the_factor_is_taken():
    y, _ = Squeeze(4)(torch.zeros(2, 3, 8, 8))
    assert y.shape == (2, 48, 2, 2)
