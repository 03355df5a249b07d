"""Cells of the visual cortex: Gabor filters, Gaussian tuning to stored patches, maxima."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ASPECT = 0.3


class GaborFilters(nn.Module):
    """First simple cells: the size of the response to bars of several orientations.

    The filters are fixed, with mean zero and norm one; the picture keeps its size.

    Arguments:
        side: Odd side of the filters.
        orientations: Number of orientations.

    References:
        Robust Object Recognition with Cortex-Like Mechanisms, Serre et al., IEEE PAMI 29 (2007),
        411-426 (no arXiv number), table 1.
    """

    filters: Tensor

    def __init__(self, side: int, orientations: int) -> None:
        super().__init__()
        self.register_buffer("filters", _gabor(side, orientations), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return `(batch, orientations, height, width)` of `(batch, 1, height, width)`."""
        return F.conv2d(x, self.filters, padding=self.filters.shape[-1] // 2).abs()


class GaussianTuning(nn.Module):
    """Later simple cells: `exp(−‖w − x‖² / 2σ²)` of every patch `x` and every stored patch `w`.

    Arguments:
        channels: Channels of the input.
        cells: Number of stored patches.
        kernel: Side of the patches; the input is padded by half of it.
        sigma: Width σ of the tuning.

    References:
        Hierarchical Models of Object Recognition in Cortex, Riesenhuber and Poggio, Nature
        Neuroscience 2 (1999), 1019-1025 (no arXiv number).
    """

    def __init__(self, channels: int, cells: int, kernel: int, *, sigma: float) -> None:
        super().__init__()
        self.sigma = sigma
        self.patches = nn.Parameter(torch.rand(cells, channels, kernel, kernel))

    def forward(self, x: Tensor) -> Tensor:
        """Return responses in 0 … 1, one channel per stored patch."""
        padding = self.patches.shape[-1] // 2
        energy = F.conv2d(x.square(), torch.ones_like(self.patches[:1]), padding=padding)
        match = F.conv2d(x, self.patches, padding=padding)
        norm = self.patches.square().sum((1, 2, 3))[:, None, None]
        distance = (energy - 2 * match + norm).clamp(min=0)
        return torch.exp(-distance / (2 * self.sigma**2))

    @torch.no_grad()
    def imprint(self, responses: Tensor, generator: torch.Generator) -> None:
        """Store patches drawn from responses `(batch, channels, height, width)`."""
        cells, channels, kernel, _ = self.patches.shape
        seen = F.unfold(responses, kernel, padding=kernel // 2).transpose(1, 2)
        seen = seen.reshape(-1, channels, kernel, kernel)
        chosen = torch.randint(len(seen), (cells,), generator=generator)
        self.patches.copy_(seen[chosen])


def _gabor(side: int, orientations: int) -> Tensor:
    sigma = 0.0036 * side**2 + 0.35 * side + 0.18
    wavelength = sigma / 0.8
    reach = side // 2
    steps = torch.arange(-reach, reach + 1, dtype=torch.float64)
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    filters = []
    for place in range(orientations):
        angle = math.pi * place / orientations
        along = x * math.cos(angle) + y * math.sin(angle)
        across = y * math.cos(angle) - x * math.sin(angle)
        bell = torch.exp(-(along**2 + (ASPECT * across) ** 2) / (2 * sigma**2))
        bell = torch.where(x**2 + y**2 <= reach**2, bell, 0.0)
        wave = bell * torch.cos(2 * math.pi * along / wavelength)
        wave = torch.where(bell > 0, wave - wave.sum() / (bell > 0).sum(), 0.0)
        filters.append(wave / wave.norm())
    return torch.stack(filters)[:, None].float()
