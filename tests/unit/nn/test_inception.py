from __future__ import annotations

import torch

from toolkit.nn.inception import Branches, Inception


def test_the_parts_lie_side_by_side_in_the_output():
    branches = Branches(2, 3, 4, 1, 2, 1)
    block = Inception(3, branches).eval()
    x = torch.rand(2, 3, 5, 6)
    y = block(x)
    assert y.shape == (2, branches.total, 5, 6)
    assert torch.equal(y[:, :2], block.one(x))
    assert torch.equal(y[:, -1:], block.pooled(x))


def test_a_thinned_block_keeps_at_least_one_channel_of_each_part():
    assert Branches(64, 96, 128, 16, 32, 32).thinned(32) == Branches(2, 3, 4, 1, 1, 1)
