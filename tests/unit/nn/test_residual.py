from __future__ import annotations

import pytest
import torch
from torch import nn

from toolkit.nn.residual import ResidualBlock


@pytest.mark.parametrize(
    ("channels", "stride", "size"), [((4, 4), 1, 6), ((4, 8), 2, 3), ((4, 4), 2, 3)]
)
def test_channels_and_stride_give_the_shape(channels, stride, size):
    block = ResidualBlock(*channels, stride=stride)
    assert block(torch.randn(2, 4, 6, 6)).shape == (2, channels[1], size, size)


def test_the_shortcut_is_the_input_where_the_shape_stays():
    block = ResidualBlock(4, 4).eval()
    nn.init.zeros_(block.norm2.weight)
    x = torch.randn(2, 4, 6, 6)
    assert torch.equal(block(x), x.relu())
