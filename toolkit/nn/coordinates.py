"""First layers of coordinate networks: sine layers, and random Fourier features."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class SineLayer(nn.Module):
    """A linear layer, then `sin(omega · y)`, initialised so that depth keeps the law of outputs.

    Arguments:
        inputs: Features of the input.
        outputs: Features of the output.
        omega: Frequency: how many radians the first layer's sines turn per unit at most.
        first: Whether the inputs are coordinates in [-1, 1] and not another layer's sines.

    References:
        Implicit Neural Representations with Periodic Activation Functions, arXiv 2006.09661.
    """

    def __init__(self, inputs: int, outputs: int, *, omega: float, first: bool = False) -> None:
        super().__init__()
        self.omega = omega
        self.linear = nn.Linear(inputs, outputs)
        reach = 1 / inputs if first else math.sqrt(6 / inputs) / omega
        nn.init.uniform_(self.linear.weight, -reach, reach)

    def forward(self, x: Tensor) -> Tensor:
        """Return `(batch, outputs)` in [-1, 1] of `(batch, inputs)`."""
        return torch.sin(self.omega * self.linear(x))


class FourierFeatures(nn.Module):
    """Cosines and sines of `2π B x`, B fixed and normally distributed.

    Arguments:
        inputs: Features of the input.
        outputs: Features of the output; even.
        deviation: Standard deviation of B, in periods per unit: the larger, the finer.

    References:
        Fourier Features Let Networks Learn High Frequency Functions in Low Dimensional Domains,
        arXiv 2006.10739.
    """

    frequencies: Tensor

    def __init__(self, inputs: int, outputs: int, *, deviation: float) -> None:
        super().__init__()
        self.register_buffer("frequencies", deviation * torch.randn(inputs, outputs // 2))

    def forward(self, x: Tensor) -> Tensor:
        """Return `(batch, outputs)` in [-1, 1] of `(batch, inputs)`."""
        angles = 2 * math.pi * x @ self.frequencies
        return torch.cat([angles.cos(), angles.sin()], 1)
