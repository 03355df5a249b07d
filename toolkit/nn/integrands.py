"""Integrands over the unit cube, as logarithms of positive functions, with their integrals.

References:
    i-flow: High-dimensional Integration and Sampling with Normalizing Flows, arXiv 2001.05486,
    section IV.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

WIDTH = 0.2
CENTRES = {"gaussian": (1 / 2,), "camel": (1 / 3, 2 / 3)}
"""Where the peaks lie on the cube's diagonal."""


def log_integrand(name: str, x: Tensor) -> Tensor:
    """Return the mean of the peaks' densities as a logarithm, `(batch,)`.

    Each is normal with the deviation `WIDTH / √2` in every direction; part of it lies outside of
    the cube.

    Arguments:
        name: `gaussian` (one peak) or `camel` (two).
        x: Points, `(batch, features)`.
    """
    peaks = [-((x - centre) ** 2).sum(1) / WIDTH**2 for centre in CENTRES[name]]
    largest = torch.stack(peaks).amax(0)
    total = torch.stack([torch.exp(peak - largest) for peak in peaks]).sum(0)
    norm = x.shape[1] * math.log(WIDTH * math.sqrt(math.pi)) + math.log(len(peaks))
    return largest + torch.log(total) - norm


def integral(name: str, features: int) -> float:
    """Return the integral of an integrand over the unit cube, in closed form."""

    def share(centre: float) -> float:
        return 0.5 * (math.erf(centre / WIDTH) + math.erf((1 - centre) / WIDTH))

    centres = CENTRES[name]
    return sum(share(centre) ** features for centre in centres) / len(centres)
