from __future__ import annotations

import pytest
import torch

from toolkit.nn.hourglass import Bottleneck, Hourglass


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_an_hourglass_keeps_the_shape(depth):
    x = torch.randn(2, 8, 2**depth, 3 * 2**depth)
    assert Hourglass(8, depth)(x).shape == x.shape


@pytest.mark.parametrize(("depth", "sees"), [(1, False), (4, True)])
def test_depth_lets_one_corner_see_the_other(depth, sees):
    torch.manual_seed(0)
    x = torch.randn(1, 4, 32, 32, requires_grad=True)
    Hourglass(4, depth).eval()(x)[0, :, 0, 0].sum().backward()
    assert bool(x.grad[0, :, 16:, 16:].any()) == sees


def test_a_bottleneck_changes_the_channels():
    assert Bottleneck(4, 6)(torch.randn(1, 4, 5, 5)).shape == (1, 6, 5, 5)
    assert isinstance(Bottleneck(4, 4).shortcut, torch.nn.Identity)
