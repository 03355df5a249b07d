"""Beta-VAE: a convolutional variational autoencoder whose divergence weighs more than one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from toolkit.core.errors import UsageError
from toolkit.models._latent import Shape, dimensions
from toolkit.models._vae import VariationalAutoencoder, check_options, maps_of
from toolkit.nn.coders import ConvDecoder, ConvEncoder


@dataclass(frozen=True, slots=True)
class Dimensions:
    """Shape of a picture, channels of the convolutions, dense features, features of a code."""

    shape: Shape
    widths: Sequence[int]
    features: int
    latent: int


SIZES = {
    "small": Dimensions(shape=(1, 16, 16), widths=(16, 32), features=128, latent=10),
    "full": Dimensions(shape=(3, 64, 64), widths=(32, 32, 64, 64), features=256, latent=32),
}


class BetaVAE(VariationalAutoencoder):
    """Encode and decode pictures with values in [0, 1] by strided convolutions.

    A β above one makes the code cheaper, and with it the reconstruction poorer.

    Arguments:
        beta: Weight of the divergence in training.
        size: `small` for digits of 16x16, `full` for the paper's colour pictures of 64x64.
        shape: Channels, height and width, both multiples of 2 for each convolution; empty takes
            those of `size`.
        widths: Channels of the encoder's convolutions; empty takes those of `size`.
        features: Features of the dense layers; 0 takes those of `size`.
        latent: Features of a code; 0 takes those of `size`.
        likelihood: `bernoulli`, or `gaussian` where the decoder gives mean and variance.
        classes: Condition on a label of so many classes; 0 for none.

    Raises:
        UsageError: There is no such size or likelihood, or a number is out of range.

    References:
        beta-VAE: Learning Basic Visual Concepts with a Constrained Variational Framework,
        Higgins et al., ICLR 2017.
    """

    def __init__(
        self,
        *,
        beta: float = 4.0,
        size: str = "small",
        shape: tuple[int, ...] = (),
        widths: Sequence[int] = (),
        features: int = 0,
        latent: int = 0,
        likelihood: str = "bernoulli",
        classes: int = 0,
    ) -> None:
        dims = dimensions(
            SIZES,
            size,
            where="beta_vae",
            shape=tuple(shape),
            widths=widths,
            features=features,
            latent=latent,
        )
        check_options("beta_vae", classes=classes, beta=beta)
        channels, height, width = dims.shape
        if height % 2 ** len(dims.widths) or width % 2 ** len(dims.widths):
            raise UsageError(
                f"pictures of {height}x{width} cannot be halved {len(dims.widths)} times",
                where="beta_vae",
                next_step=f"take multiples of {2 ** len(dims.widths)}, or fewer widths",
            )
        decoded = (maps_of(likelihood) * channels, height, width)
        super().__init__(
            ConvEncoder(dims.shape, dims.widths, dims.features),
            ConvDecoder(dims.latent + classes, decoded, dims.widths, dims.features),
            features=dims.features,
            shape=dims.shape,
            latent=dims.latent,
            likelihood=likelihood,
            classes=classes,
            beta=beta,
        )


model = BetaVAE
