from __future__ import annotations

import pytest
import torch
from torch import nn

from toolkit.nn.networks import ConvNetwork, Perceptron, ZeroConv2d


@pytest.mark.parametrize(
    ("network", "shape", "expected"),
    [
        (Perceptron(3, 4, hidden=8, layers=2), (5, 3), (5, 4)),
        (Perceptron(3, 4, hidden=8, layers=0), (5, 3), (5, 4)),
        (ZeroConv2d(3, 4), (5, 3, 6, 6), (5, 4, 6, 6)),
        (ConvNetwork(3, 4, width=8), (5, 3, 6, 6), (5, 4, 6, 6)),
    ],
)
def test_a_fresh_network_gives_zeros(network, shape, expected):
    y = network(torch.randn(shape))
    assert y.shape == expected
    assert not y.any()


def test_a_perceptron_has_the_layers_asked_for():
    layers = [part for part in Perceptron(3, 4, hidden=8, layers=2) if isinstance(part, nn.Linear)]
    assert [layer.weight.shape for layer in layers] == [(8, 3), (8, 8), (4, 8)]
