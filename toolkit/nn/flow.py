"""Flows: composition of transforms, and a standard normal seen through one."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn


class Chain(nn.ModuleList):
    """Apply transforms one after the other; their log-determinants add up.

    Arguments:
        transforms: At least one module with `forward` and `inverse` to `(value, log_det)`.
    """

    def __init__(self, transforms: Iterable[nn.Module]) -> None:
        super().__init__(transforms)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the last transform's output and the sum of the `log_det`, `(batch,)`."""
        first, *others = self
        x, total = first(x, context)
        for transform in others:
            x, log_det = transform(x, context)
            total = total + log_det
        return x, total

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the first transform's input and the sum of the inverses' `log_det`."""
        last, *others = reversed(list(self))
        y, total = last.inverse(y, context)  # type: ignore[operator]
        for transform in others:
            y, log_det = transform.inverse(y, context)  # type: ignore[operator]
            total = total + log_det
        return y, total

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        """Initialise, in order, every transform that depends on a first batch."""
        for transform in self:
            initialize(transform, x, context)
            x, _ = transform(x, context)


def initialize(transform: nn.Module, x: Tensor, context: Tensor | None = None) -> None:
    """Initialise a transform from a first batch, where it has anything to initialise."""
    if callable(method := getattr(transform, "initialize", None)):
        method(x, context)


def standard_normal_log_prob(z: Tensor) -> Tensor:
    """Return `log N(z; 0, I)` in nats, summed over all axes but the first: `(batch,)`."""
    flat = z.flatten(1)
    return -0.5 * ((flat * flat).sum(1) + flat.shape[1] * math.log(2 * math.pi))


class Flow(nn.Module):
    """A standard normal seen through a transform from data `x` to noise `z`.

    Arguments:
        transform: Maps `x` to `(z, log_det)`; its `inverse` maps `z` to `(x, log_det)`.
    """

    def __init__(self, transform: nn.Module) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the noise `z` and `log_det` of shape `(batch,)`."""
        result: tuple[Tensor, Tensor] = self.transform(x)
        return result

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return the data `x` and the inverse's `log_det` of shape `(batch,)`."""
        result: tuple[Tensor, Tensor] = self.transform.inverse(z)  # type: ignore[operator]
        return result

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-density of `x` in nats, `(batch,)`."""
        z, log_det = self.forward(x)
        return standard_normal_log_prob(z) + log_det

    def sample(self, noise: Tensor) -> Tensor:
        """Return the data that standard-normal `noise` stands for."""
        x: Tensor = self.inverse(noise)[0]
        return x

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        """Set what depends on a first batch of data, as training does before its first step."""
        initialize(self.transform, x)
