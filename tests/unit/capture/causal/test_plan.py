"""Past terms: a shift that columns are still owed moves into bias and queue."""

from __future__ import annotations

import torch

from toolkit.capture.causal.lane import Lane
from toolkit.capture.causal.plan import Past


def test_bare_columns_give_the_same_term():
    torch.manual_seed(0)
    lane = Lane("x", 2, (1, 3, 9), tuple)
    weight, bias, queue = torch.randn(6, 4), torch.randn(4), torch.zeros(2, 1, 3)
    past = Past(lane, (2, 1), weight, bias, queue, torch.randn(3))
    bare = past.bare()
    assert bare.shift is None
    for columns in (queue, torch.randn(2, 1, 3)):
        whole = columns.transpose(0, 1).reshape(1, -1) @ past.weight + past.bias
        left = (columns - past.shift).transpose(0, 1).reshape(1, -1) @ bare.weight + bare.bias
        assert torch.allclose(left, whole, atol=1e-5)
    assert torch.equal(bare.queue, queue - past.shift)
    assert bare.bare() is bare
