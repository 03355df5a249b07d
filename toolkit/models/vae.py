"""Variational autoencoder: dense coders, a normal code and a bound on the log-likelihood."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from toolkit.models._latent import Shape, dimensions, pixels
from toolkit.models._vae import VariationalAutoencoder, check_options, maps_of
from toolkit.nn.coders import dense


@dataclass(frozen=True, slots=True)
class Dimensions:
    """Shape of a picture, features of the encoder's hidden layers and of a code."""

    shape: Shape
    hidden: Sequence[int]
    latent: int


SIZES = {
    "small": Dimensions(shape=(1, 8, 8), hidden=(256,), latent=16),
    "full": Dimensions(shape=(1, 28, 28), hidden=(500,), latent=20),
}


class VAE(VariationalAutoencoder):
    """Encode and decode pictures with values in [0, 1] by dense layers with tanh.

    Arguments:
        size: `small` for digits of 8x8, `full` for 28x28 and the paper's 500 units.
        shape: Channels, height and width of a picture; empty takes those of `size`.
        hidden: Features of the encoder's hidden layers; empty takes those of `size`.
        latent: Features of a code; 0 takes those of `size`.
        likelihood: `bernoulli`, or `gaussian` where the decoder gives mean and variance.
        classes: Condition on a label of so many classes; 0 for none.

    Raises:
        UsageError: There is no such size or likelihood, or a number is out of range.

    References:
        Auto-Encoding Variational Bayes, arXiv 1312.6114.
    """

    def __init__(
        self,
        *,
        size: str = "small",
        shape: tuple[int, ...] = (),
        hidden: Sequence[int] = (),
        latent: int = 0,
        likelihood: str = "bernoulli",
        classes: int = 0,
    ) -> None:
        dims = dimensions(
            SIZES, size, where="vae", shape=tuple(shape), hidden=hidden, latent=latent
        )
        check_options("vae", classes=classes)
        features = pixels(dims.shape)
        first = dims.latent + classes
        super().__init__(
            nn.Sequential(nn.Flatten(), *dense([features, *dims.hidden], nn.Tanh), nn.Tanh()),
            dense([first, *dims.hidden[::-1], maps_of(likelihood) * features], nn.Tanh),
            features=dims.hidden[-1],
            shape=dims.shape,
            latent=dims.latent,
            likelihood=likelihood,
            classes=classes,
            beta=1.0,
        )


model = VAE
