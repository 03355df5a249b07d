"""Distances between two clouds of points."""

from __future__ import annotations

import torch
from torch import Tensor

DIRECTIONS = 256


def sliced_wasserstein(x: Tensor, y: Tensor, *, directions: int = DIRECTIONS) -> Tensor:
    """Return the mean earth mover's distance between projections of two clouds, a scalar.

    It is in units of a feature's own: a cloud moved by `d` in every feature is about 0.8 `d` away.
    The directions are the same at every call.

    Arguments:
        x: Points `(samples, ...)`.
        y: As many points of the same shape.
        directions: How many random directions to project on.

    References:
        Sliced and Radon Wasserstein barycenters of measures, Bonneel et al., 2015.
    """
    x, y = x.flatten(1), y.flatten(1)
    generator = torch.Generator().manual_seed(0)
    planes = torch.randn(x.shape[1], directions, generator=generator).to(x)
    planes = planes / planes.norm(dim=0)
    # In one dimension the cheapest transport moves the smallest to the smallest.
    moved: Tensor = (x @ planes).sort(0).values - (y @ planes).sort(0).values
    return moved.abs().mean()
