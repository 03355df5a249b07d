"""Denoising autoencoder: restores clean pictures from noisy ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from toolkit.core.errors import UsageError
from toolkit.models._latent import CodeModel, Shape, dimensions, pixels
from toolkit.nn.coders import dense


@dataclass(frozen=True, slots=True)
class Dimensions:
    """Shape of a picture, features of the encoder's hidden layers and of a code."""

    shape: Shape
    hidden: Sequence[int]
    latent: int


SIZES = {
    "small": Dimensions(shape=(1, 8, 8), hidden=(256,), latent=64),
    "full": Dimensions(shape=(1, 28, 28), hidden=(2000, 2000), latent=2000),
}


class DenoisingAutoencoder(CodeModel):
    """Encode noisy pictures so that the decoder gives the clean ones, with values in [0, 1].

    Training adds normal noise by `corrupt`; the entries take pictures that are noisy already.

    Arguments:
        size: `small` for digits of 8x8, `full` for 28x28 and the paper's three layers of 2000.
        shape: Channels, height and width of a picture; empty takes those of `size`.
        hidden: Features of the encoder's hidden layers; empty takes those of `size`.
        latent: Features of a code; 0 takes those of `size`.
        noise: Deviation of the noise that training adds, where the pixels lie in [0, 1].

    Raises:
        UsageError: There is no such size, a dimension is not positive, or the noise is negative.

    References:
        Stacked denoising autoencoders, Vincent et al., JMLR 11, 2010.
    """

    def __init__(
        self,
        *,
        size: str = "small",
        shape: tuple[int, ...] = (),
        hidden: Sequence[int] = (),
        latent: int = 0,
        noise: float = 0.25,
    ) -> None:
        name = "denoising_autoencoder"
        if noise < 0:
            raise UsageError(
                f"noise = {noise} is negative", where=name, next_step="give a deviation, 0 or more"
            )
        dims = dimensions(SIZES, size, where=name, shape=tuple(shape), hidden=hidden, latent=latent)
        sizes = [pixels(dims.shape), *dims.hidden, dims.latent]
        super().__init__(
            nn.Sequential(*dense(sizes), nn.ReLU()),
            nn.Sequential(*dense(sizes[::-1]), nn.Sigmoid()),
            shape=dims.shape,
            latent=dims.latent,
            domain=None,
        )
        self.noise = noise

    def corrupt(self, x: Tensor, noise: Tensor) -> Tensor:
        """Return pictures with standard-normal `noise` of the same shape added, scaled."""
        return x + self.noise * noise


model = DenoisingAutoencoder
