from __future__ import annotations

import torch
from torch import nn

from toolkit.nn.target import Target


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))


def test_it_starts_as_a_copy_of_its_own():
    online = network().eval()
    target = Target(online, 0.1).eval()
    x = torch.rand(2, 1, 4, 4)
    before = target(x)
    assert torch.equal(before, online(x))
    with torch.no_grad():
        for parameter in online.parameters():
            parameter.add_(1)
    assert torch.equal(target(x), before)


def test_a_step_goes_its_share_of_the_way():
    online = network()
    target = Target(online, 0.25)
    start = online[3].weight.detach().clone()
    with torch.no_grad():
        online[3].weight.add_(4)
    target.follow(online)
    torch.testing.assert_close(target.network[3].weight, start + 1)
    target.follow(online)
    torch.testing.assert_close(target.network[3].weight, start + 1.75)


def test_no_gradient_and_no_optimiser_reaches_it_and_it_is_saved():
    target = Target(network(), 0.1)
    assert not list(target.parameters())
    assert not target(torch.rand(2, 1, 4, 4)).requires_grad
    assert set(target.network.state_dict()) == set(network().state_dict())
