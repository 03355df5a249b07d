"""What variational autoencoders of pictures share: posterior, bound, samples and entries."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from toolkit.core.entry import Entry, Input
from toolkit.core.errors import UsageError
from toolkit.models._latent import (
    CODE_DIMS,
    EXAMPLES,
    PICTURE_DIMS,
    Shape,
    draws,
    picture_input,
)
from toolkit.nn.gaussian import (
    bernoulli_log_prob,
    kl_from_standard_normal,
    normal_log_prob,
    reparametrize,
)

LIKELIHOODS = ("bernoulli", "gaussian")
LOG_VAR_CENTRE, LOG_VAR_REACH = -3.0, 3.0


class VariationalAutoencoder(nn.Module):
    """A density over pictures in [0, 1] with a normal code; every draw's noise is an input.

    The decoder gives the probability of white (`bernoulli`), or mean and variance of every pixel
    (`gaussian`). The log-variance is bounded to -6 … 0: pixels that never vary would otherwise
    have an unbounded density.

    Arguments:
        encoder: Maps pictures to features `(batch, features)`.
        decoder: Maps codes, with the label's one-hot form behind where there is one, to
            `(batch, maps · pixels)` in any shape; `maps` is that of `maps_of(likelihood)`.
        features: Features that the encoder gives.
        shape: Channels, height and width of a picture.
        latent: Features of a code.
        likelihood: `bernoulli` or `gaussian`.
        classes: Number of classes of a label that both coders are conditioned on; 0 for none.
        beta: Weight of the divergence in training; `elbo` itself has weight 1.
    """

    family: ClassVar[str] = "autoencoder"

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        *,
        features: int,
        shape: Shape,
        latent: int,
        likelihood: str,
        classes: int,
        beta: float,
    ) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.posterior = nn.Linear(features + classes, 2 * latent)
        self.shape, self.latent = shape, latent
        self.likelihood, self.classes, self.beta = likelihood, classes, beta

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Return the shape of one sample's noise."""
        return (self.latent,)

    def encode(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of the code's posterior, `(batch, latent)` each."""
        features = self._with_label(self.encoder(x), label)
        mean, log_var = self.posterior(features).chunk(2, 1)
        return mean, log_var

    def decode(self, z: Tensor, label: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """Return the pixels' means of codes `(batch, latent)`; where gaussian, log-variances too.

        Both are of shape `(batch, channels, height, width)`.
        """
        first, *others = self._maps(z, label)
        if self.likelihood == "bernoulli":
            return first.sigmoid()
        return first, others[0]

    def mean(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """Return the pixels' means of codes."""
        given = self.decode(z, label)
        return given if isinstance(given, Tensor) else given[0]

    def reconstruct(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """Return the pixels' means of the posterior's mean code."""
        return self.mean(self.encode(x, label)[0], label)

    def sample(self, noise: Tensor, label: Tensor | None = None) -> Tensor:
        """Return the pixels' means of the code that is standard-normal `noise`."""
        return self.mean(noise, label)

    def sample_pixels(
        self, noise: Tensor, pixel_noise: Tensor, label: Tensor | None = None
    ) -> Tensor:
        """Return pictures drawn from the decoder's normal, by standard-normal `pixel_noise`."""
        mean, log_var = self._maps(noise, label)
        return reparametrize(mean, log_var, pixel_noise)

    def elbo(
        self, x: Tensor, noise: Tensor, label: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Estimate the evidence lower bound by one draw of the code.

        Returns:
            The bound, `log p(x|z)` and the divergence of the posterior from the prior, which the
            bound is the difference of; each `(batch,)`, in nats.
        """
        mean, log_var = self.encode(x, label)
        log_likelihood = self.log_likelihood(x, reparametrize(mean, log_var, noise), label)
        kl = kl_from_standard_normal(mean, log_var)
        return log_likelihood - kl, log_likelihood, kl

    def log_likelihood(self, x: Tensor, z: Tensor, label: Tensor | None = None) -> Tensor:
        """Return `log p(x|z)` in nats, `(batch,)`."""
        first, *others = self._maps(z, label)
        if self.likelihood == "bernoulli":
            return bernoulli_log_prob(x, first)
        return normal_log_prob(x, first, others[0])

    def entries(self) -> list[Entry]:
        """Return `encode`, `decode`, `reconstruct`, `sample` and `elbo`."""
        x = picture_input(self.shape, (0.0, 1.0))
        code = torch.randn(EXAMPLES, self.latent, generator=draws())
        z = Input("z", code, dims=CODE_DIMS)
        noise = Input("noise", code, dims=CODE_DIMS, kind="noise", law="normal")
        label = self._label_inputs()
        decoded, pixel_noise = ["x"], []
        if self.likelihood == "gaussian":
            decoded = ["x", "log_var"]
            example = torch.randn(EXAMPLES, *self.shape, generator=draws())
            pixel_noise = [Input("pixel_noise", example, dims=PICTURE_DIMS, kind="noise")]
        sampler = "sample_pixels" if pixel_noise else "sample"
        nats = ["elbo", "log_likelihood", "kl"]
        psnr = {"x": "psnr"}
        return [
            Entry("encode", "encode", [x, *label], ["mean", "log_var"]),
            Entry("decode", "decode", [z, *label], decoded, units=psnr),
            Entry(
                "reconstruct",
                "reconstruct",
                [x, *label],
                ["reconstruction"],
                units={"reconstruction": "psnr"},
            ),
            Entry("sample", sampler, [noise, *pixel_noise, *label], ["x"], units=psnr),
            Entry("elbo", "elbo", [x, noise, *label], nats, units=dict.fromkeys(nats, "nats")),
        ]

    def _label_inputs(self) -> list[Input]:
        if not self.classes:
            return []
        example = torch.arange(EXAMPLES) % self.classes
        last = self.classes - 1
        return [Input("label", example, dims=("batch",), kind="context", low=0, high=last)]

    def _maps(self, z: Tensor, label: Tensor | None) -> tuple[Tensor, ...]:
        """Return logits, or means and bounded log-variances, of every pixel."""
        given = self.decoder(self._with_label(z, label))
        maps: tuple[Tensor, ...] = given.reshape(-1, maps_of(self.likelihood), *self.shape).unbind(
            1
        )
        if self.likelihood == "bernoulli":
            return maps
        return maps[0], LOG_VAR_CENTRE + LOG_VAR_REACH * torch.tanh(maps[1])

    def _with_label(self, features: Tensor, label: Tensor | None) -> Tensor:
        """Return features with the label's one-hot form behind, where the model takes one.

        Raises:
            UsageError: The model is conditioned on a label and none is given.
        """
        if not self.classes:
            return features
        if label is None:
            raise UsageError(
                f"the model is conditioned on a label of {self.classes} classes",
                where=type(self).__name__,
                next_step="give the label as the last argument",
            )
        classes = torch.arange(self.classes, device=label.device)
        return torch.cat([features, (label[:, None] == classes).to(features.dtype)], 1)


def maps_of(likelihood: str) -> int:
    """Return how many numbers per pixel a decoder gives: logits, or mean and log-variance.

    Raises:
        UsageError: There is no such likelihood.
    """
    if likelihood not in LIKELIHOODS:
        raise UsageError(
            f"there is no likelihood {likelihood!r}",
            where="[model] likelihood",
            next_step=f"use one of {', '.join(LIKELIHOODS)}",
        )
    return 1 + LIKELIHOODS.index(likelihood)


def check_options(where: str, **numbers: float) -> None:
    """Refuse negative options of a variational autoencoder.

    Raises:
        UsageError: One is negative.
    """
    for name, value in numbers.items():
        if value < 0:
            raise UsageError(
                f"{name} = {value} is negative", where=where, next_step="give 0 or more"
            )
