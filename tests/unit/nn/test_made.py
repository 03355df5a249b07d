from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

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


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("reverse", [False, True])
def test_solving_feature_by_feature_is_what_whole_passes_settle_at(layers, reverse):
    torch.manual_seed(0)
    network = MADE(5, 3, hidden=14, layers=layers, reverse=reverse).double()
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    given, x = torch.randn(7, 5).double(), torch.zeros(7, 5).double()

    def update(given, numbers):
        first, second, third = numbers.unsqueeze(1).chunk(3, 2)
        x = given.unsqueeze(2) * torch.sigmoid(first) + torch.tanh(second)
        return x.squeeze(2), (x * third).squeeze(2)

    for _ in range(5):
        numbers = network(x).reshape(7, 3, 5).transpose(1, 2).reshape(35, 3)
        x, other = (item.reshape(7, 5) for item in update(given.reshape(35, 1), numbers))
    found, beside = network.solve(given, update)
    torch.testing.assert_close(found, x)
    torch.testing.assert_close(beside, other)


@torch.no_grad()
def test_solving_costs_one_pass():
    """The products of all steps together: doubling the features does not double the passes."""
    for features in (8, 16):
        network = MADE(features, 2, hidden=60, layers=2)
        with FlopCounterMode(display=False) as whole:
            network(torch.randn(4, features))
        with FlopCounterMode(display=False) as steps:
            network.solve(torch.randn(4, features), lambda y, numbers: (y + numbers[:, :1], y))
        # Blocks of one degree are filled up to one length.
        assert steps.get_total_flops() < 1.7 * whole.get_total_flops()
