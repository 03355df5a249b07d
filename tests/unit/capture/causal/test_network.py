"""What categories are fed back as: looked up as it is computed."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from toolkit.capture.causal import network
from toolkit.capture.causal.network import embedded, looked_up
from toolkit.core.entry import Autoregressive, Input

LEVELS = 5


def sampler(embed):
    x = Input("x", torch.zeros(2, 3, 9), ("batch", None, "time"))
    return Autoregressive("sample", "forward", x, "time", LEVELS, 1, embed)


@pytest.mark.parametrize("largest", [network.LARGEST_TABLE, 3], ids=["table", "computed"])
@pytest.mark.parametrize(
    ("embed", "like"),
    [
        (lambda level: level / 2 - 1, torch.zeros(4)),
        (lambda level: level / 2 - 1, torch.zeros(4, 1)),
        (lambda level: F.one_hot(level, LEVELS), torch.zeros(4, LEVELS)),
        (lambda level: LEVELS - 1 - level, torch.zeros(4, dtype=torch.int64)),
        (None, torch.zeros(4, dtype=torch.int64)),
    ],
    ids=["number", "column", "one hot", "other category", "category"],
)
def test_it_is_what_the_declaration_computes(monkeypatch, embed, like, largest):
    monkeypatch.setattr(network, "LARGEST_TABLE", largest)
    levels = torch.tensor([3, 0, 4, 1])
    found = looked_up(sampler(embed), levels, like)
    expected = embedded(sampler(embed), levels, like)
    assert found.dtype == like.dtype
    assert torch.equal(found, expected)
