"""HMAX: simple cells tuned to patches, complex cells that take maxima, in two layers each."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from toolkit.models._vision import Classifier, Size, side
from toolkit.nn.tuning import GaborFilters, GaussianTuning


class HMAX(Classifier):
    """Classify grey pictures by how well stored patches are matched anywhere, at any scale.

    S1 cells are Gabor filters, C1 cells their maxima over two neighbouring filter sizes and near
    places, S2 cells are tuned to patches of C1 responses, C2 cells are the maxima over all places
    and bands. A linear layer reads these, standardised. `initialize` stores patches of real
    pictures.

    Arguments:
        size: Height and width; `full` is the published network with pictures of 140x140, and then
            the other arguments do not count.
        classes: Number of classes.
        orientations: Orientations of the Gabor filters.
        bands: Bands of two filter sizes each.
        first_filter: Side of the smallest filter; every further one is 2 wider.
        first_pool: Side of the first band's C1 windows, 2 wider in every further band; windows
            overlap by half.
        patches: Sides of the stored patches.
        cells: Stored patches of each side.
        sigma: Width of the tuning per square root of a patch's numbers.

    References:
        Hierarchical Models of Object Recognition in Cortex, Riesenhuber and Poggio, Nature
        Neuroscience 2 (1999), 1019-1025 (no arXiv number).
        Robust Object Recognition with Cortex-Like Mechanisms, Serre et al., IEEE PAMI 29 (2007),
        411-426 (no arXiv number).
    """

    def __init__(
        self,
        *,
        size: Size = 16,
        classes: int = 10,
        orientations: int = 4,
        bands: int = 2,
        first_filter: int = 3,
        first_pool: int = 4,
        patches: Sequence[int] = (3, 4),
        cells: int = 64,
        sigma: float = 0.1,
    ) -> None:
        if size == "full":
            classes, orientations, bands, first_filter, first_pool = 102, 4, 8, 7, 8
            patches, cells = (4, 8, 12, 16), 250
        pixels = side(size, full=140, smallest=first_pool + 2 * (bands - 1))
        super().__init__((1, pixels, pixels))
        self.pools = [first_pool + 2 * band for band in range(bands)]
        self.s1 = nn.ModuleList(
            GaborFilters(first_filter + 2 * place, orientations) for place in range(2 * bands)
        )
        self.s2 = nn.ModuleList(
            GaussianTuning(
                orientations, cells, kernel, sigma=sigma * (orientations * kernel**2) ** 0.5
            )
            for kernel in patches
        )
        features = cells * len(patches)
        self.head = nn.Sequential(nn.BatchNorm1d(features), nn.Linear(features, classes))

    def initialize(self, x: Tensor) -> None:
        """Store patches of the C1 responses to pictures `(batch, 1, height, width)`."""
        generator = torch.Generator().manual_seed(0)
        first = self.c1(x)[0]
        for cells in self.s2:
            if isinstance(cells, GaussianTuning):
                cells.imprint(first, generator)

    def c1(self, x: Tensor) -> list[Tensor]:
        """Return the C1 responses of every band, `(batch, orientations, rows, columns)`."""
        simple = [cells(x) for cells in self.s1]
        return [
            F.max_pool2d(torch.maximum(*simple[2 * band : 2 * band + 2]), pool, stride=pool // 2)
            for band, pool in enumerate(self.pools)
        ]

    def c2(self, x: Tensor) -> Tensor:
        """Return the C2 responses, `(batch, cells of all patch sizes)`."""
        bands = self.c1(x)
        return torch.cat(
            [
                torch.stack([cells(band).amax((2, 3)) for band in bands]).amax(0)
                for cells in self.s2
            ],
            1,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of shape `(batch, classes)` for `x` of shape `(batch, 1, h, w)`."""
        logits: Tensor = self.head(self.c2(x))
        return logits


model = HMAX
