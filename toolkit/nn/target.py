"""Target networks: slow copies that a network is trained towards."""

from __future__ import annotations

import copy

import torch
from torch import nn


class Target(nn.Module):
    """A copy of a network that takes small steps towards it and that no gradient moves.

    Its numbers are buffers: they are saved with the model, so that a training goes on from where
    it stopped, and no optimiser sees them.

    Arguments:
        network: The network.
        rate: Share of the way that one step goes.

    References:
        Continuous control with deep reinforcement learning, arXiv 1509.02971, section 3.
    """

    def __init__(self, network: nn.Module, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.network = copy.deepcopy(network)
        for module in self.network.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                delattr(module, name)
                module.register_buffer(name, parameter.detach())

    @torch.no_grad()
    def follow(self, network: nn.Module) -> None:
        """Take a step towards the network; whole numbers, such as counts, are copied."""
        fast = network.state_dict()
        for name, slow in self.network.state_dict().items():
            if slow.is_floating_point():
                slow.lerp_(fast[name], self.rate)
            else:
                slow.copy_(fast[name])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return what the copy gives."""
        result: torch.Tensor = self.network(x)
        return result
