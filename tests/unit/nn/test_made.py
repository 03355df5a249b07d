from __future__ import annotations

import pytest
import torch
from torch import nn

from toolkit.core.errors import UsageError
from toolkit.nn.made import MADE


def reach(network: MADE, features: int) -> torch.Tensor:
    """Return which outputs `(outputs, features, features)` a feature reaches, with wild weights."""
    torch.manual_seed(0)
    network = network.double()
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(64, features, dtype=torch.float64)
    jacobians = torch.func.vmap(torch.func.jacrev(network))(x)
    return (jacobians.abs().amax(0) > 0).reshape(-1, features, features)


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("reverse", [False, True])
def test_every_feature_reaches_all_later_ones_and_no_other(layers, reverse):
    found = reach(MADE(5, 2, hidden=32, layers=layers, reverse=reverse), 5)
    earlier = torch.ones(5, 5, dtype=torch.bool).tril(-1)
    expected = earlier.T if reverse else earlier
    assert all(torch.equal(one, expected) for one in found)


def test_masked_weights_get_no_gradient():
    network = MADE(4, 1, hidden=6, layers=1)
    nn.init.normal_(network[-1].weight)
    network(torch.randn(8, 4)).square().sum().backward()
    for layer in (network[0], network[-1]):
        assert layer.weight.grad[layer.mask == 0].abs().max() == 0


@pytest.mark.parametrize("sizes", [(1, 8, 1), (6, 4, 1), (4, 8, 0)])
def test_sizes_that_leave_a_feature_out_are_refused(sizes):
    features, hidden, layers = sizes
    with pytest.raises(UsageError, match="leaves a feature out"):
        MADE(features, 2, hidden=hidden, layers=layers)
