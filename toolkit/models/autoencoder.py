"""Autoencoder: dense layers squeeze pictures through a narrow code and restore them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from toolkit.models._latent import CodeModel, Shape, dimensions, pixels
from toolkit.nn.coders import dense


@dataclass(frozen=True, slots=True)
class Dimensions:
    """Shape of a picture, features of the encoder's hidden layers and of a code."""

    shape: Shape
    hidden: Sequence[int]
    latent: int


SIZES = {
    "small": Dimensions(shape=(1, 8, 8), hidden=(256,), latent=16),
    "full": Dimensions(shape=(1, 28, 28), hidden=(1000, 500, 250), latent=30),
}


class Autoencoder(CodeModel):
    """Encode pictures with values in [0, 1] by dense layers; the decoder mirrors the encoder.

    Arguments:
        size: `small` for digits of 8x8, `full` for 28x28 and the paper's 1000-500-250-30.
        shape: Channels, height and width of a picture; empty takes those of `size`.
        hidden: Features of the encoder's hidden layers; empty takes those of `size`.
        latent: Features of a code; 0 takes those of `size`.

    Raises:
        UsageError: There is no such size, or a dimension is not positive.

    References:
        Reducing the dimensionality of data with neural networks, Hinton and Salakhutdinov,
        Science 313, 2006.
    """

    def __init__(
        self,
        *,
        size: str = "small",
        shape: tuple[int, ...] = (),
        hidden: Sequence[int] = (),
        latent: int = 0,
    ) -> None:
        dims = dimensions(
            SIZES, size, where="autoencoder", shape=tuple(shape), hidden=hidden, latent=latent
        )
        sizes = [pixels(dims.shape), *dims.hidden, dims.latent]
        super().__init__(
            dense(sizes),
            nn.Sequential(*dense(sizes[::-1]), nn.Sigmoid()),
            shape=dims.shape,
            latent=dims.latent,
        )


model = Autoencoder
