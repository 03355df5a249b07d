"""PCA as a linear autoencoder: trained on squared error, it finds the principal subspace."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from toolkit.models._latent import CodeModel, Shape, dimensions, pixels


@dataclass(frozen=True, slots=True)
class Dimensions:
    """Shape of a picture and number of components."""

    shape: Shape
    latent: int


SIZES = {
    "small": Dimensions(shape=(1, 8, 8), latent=10),
    "full": Dimensions(shape=(1, 28, 28), latent=30),
}


class PCA(CodeModel):
    """Encode pictures by a linear map and decode them by another one, around their mean.

    At the least squared error the decoder's columns span the subspace of the leading principal
    components, and encoder and decoder together project onto it. The basis itself is any.

    Arguments:
        size: `small` for digits of 8x8, `full` for 28x28 and the 30 components of the paper.
        shape: Channels, height and width of a picture; empty takes those of `size`.
        latent: Number of components; 0 takes that of `size`. A subspace is well defined where
            the variances have a gap, as the digits' have after ten.

    Raises:
        UsageError: There is no such size, or a dimension is not positive.

    References:
        Neural networks and principal component analysis: learning from examples without local
        minima, Baldi and Hornik, 1989. Reducing the dimensionality of data with neural networks,
        Hinton and Salakhutdinov, 2006 (dimensions).
    """

    def __init__(
        self, *, size: str = "small", shape: tuple[int, ...] = (), latent: int = 0
    ) -> None:
        dims = dimensions(SIZES, size, where="pca", shape=tuple(shape), latent=latent)
        features = pixels(dims.shape)
        super().__init__(
            nn.Linear(features, dims.latent, bias=False),
            nn.Linear(dims.latent, features, bias=False),
            shape=dims.shape,
            latent=dims.latent,
            domain=None,
        )
        self.mean = nn.Parameter(torch.zeros(dims.shape))

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        """Start at the mean of a first batch."""
        self.mean.copy_(x.mean(0))

    def encode(self, x: Tensor) -> Tensor:
        """Return the codes `(batch, latent)` of pictures `(batch, channels, height, width)`."""
        return super().encode(x - self.mean)

    def decode(self, code: Tensor) -> Tensor:
        """Return the pictures `(batch, channels, height, width)` of codes."""
        return super().decode(code) + self.mean


model = PCA
