"""Sequence VAE: a code per step, whose prior, posterior and decoder know the steps before it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from toolkit.core.entry import Entry, Input
from toolkit.models._latent import EXAMPLES, dimensions, draws, picture_input
from toolkit.nn.coders import dense
from toolkit.nn.gaussian import bernoulli_log_prob, kl_between_normals, reparametrize


@dataclass(frozen=True, slots=True)
class Dimensions:
    """Steps of a sequence, features of a step, of the state and of a step's code."""

    steps: int
    features: int
    hidden: int
    latent: int


SIZES = {
    "small": Dimensions(steps=8, features=8, hidden=64, latent=4),
    "full": Dimensions(steps=28, features=28, hidden=200, latent=16),
}
STEP_DIMS = ("batch", None, None)


class SequenceVAE(nn.Module):
    """Model the rows of a picture with values in [0, 1], one step after the other.

    A recurrent state carries the earlier steps' codes. It gives each code's prior, and goes,
    beside the step itself, into the code's posterior and, beside the code, into the probability
    of white. The bound on the log-likelihood is the sum over the steps.

    Arguments:
        size: `small` for digits of 8x8; `full` for 28x28.
        steps: Rows of a picture; 0 takes those of `size`.
        features: Columns of a picture; 0 takes those of `size`.
        hidden: Features of the state; 0 takes those of `size`.
        latent: Features of a step's code; 0 takes those of `size`.

    Raises:
        UsageError: There is no such size, or a dimension is not positive.

    References:
        Learning Latent Dynamics for Planning from Pixels, arXiv 1811.04551 (its recurrent
        state-space model, without actions).
    """

    family: ClassVar[str] = "autoencoder"

    def __init__(
        self,
        *,
        size: str = "small",
        steps: int = 0,
        features: int = 0,
        hidden: int = 0,
        latent: int = 0,
    ) -> None:
        super().__init__()
        dims = dimensions(
            SIZES,
            size,
            where="sequence_vae",
            steps=steps,
            features=features,
            hidden=hidden,
            latent=latent,
        )
        self.shape = (1, dims.steps, dims.features)
        self.noise_shape = (dims.steps, dims.latent)
        width, code = dims.hidden, dims.latent
        self.start = nn.Parameter(torch.zeros(width))
        self.prior = dense([width, width, 2 * code])
        self.posterior = dense([dims.features + width, width, 2 * code])
        self.decoder = dense([code + width, width, dims.features])
        self.cell = nn.GRUCell(code, width)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return means and log-variances of the codes' posteriors, `(batch, steps, latent)`.

        The code that is carried on to the next step is the posterior's mean.
        """
        steps = [step for step, _ in self._walk(x, None)]
        return torch.stack([s.mean for s in steps], 1), torch.stack([s.log_var for s in steps], 1)

    def decode(self, z: Tensor) -> Tensor:
        """Return the pixels' means `(batch, 1, steps, features)` of codes."""
        return self._unroll(z, noise=False)

    def reconstruct(self, x: Tensor) -> Tensor:
        """Return the pixels' means of the posteriors' mean codes."""
        return torch.stack([logits.sigmoid() for _, logits in self._walk(x, None)], 1)[:, None]

    def sample(self, noise: Tensor) -> Tensor:
        """Return the pixels' means of codes that standard-normal noise draws from the priors.

        Noise is of shape `(batch, steps, latent)`, pictures `(batch, 1, steps, features)`.
        """
        return self._unroll(noise, noise=True)

    def elbo(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Estimate the evidence lower bound by one draw of every step's code.

        Returns:
            The bound, `Σ log p(x_t|z_≤t)` and `Σ KL(q(z_t|x_t, z_<t) ‖ p(z_t|z_<t))` over the
            steps; each `(batch,)`, in nats.
        """
        log_likelihood, kl = (terms.sum(1) for terms in self.elbo_steps(x, noise))
        return log_likelihood - kl, log_likelihood, kl

    def elbo_steps(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return each step's log-likelihood and divergence, `(batch, steps)`, in nats."""
        rows = x[:, 0].unbind(1)
        walked = list(zip(rows, self._walk(x, noise), strict=True))
        likelihoods = [bernoulli_log_prob(row, logits) for row, (_, logits) in walked]
        divergences = [
            kl_between_normals(s.mean, s.log_var, s.prior_mean, s.prior_log_var)
            for _, (s, _) in walked
        ]
        return torch.stack(likelihoods, 1), torch.stack(divergences, 1)

    def entries(self) -> list[Entry]:
        """Return `encode`, `decode`, `reconstruct`, `sample` and `elbo`."""
        x = picture_input(self.shape, (0.0, 1.0))
        code = torch.randn(EXAMPLES, *self.noise_shape, generator=draws())
        z = Input("z", code, dims=STEP_DIMS)
        noise = Input("noise", code, dims=STEP_DIMS, kind="noise", law="normal")
        nats = ["elbo", "log_likelihood", "kl"]
        psnr = {"x": "psnr"}
        return [
            Entry("encode", "encode", [x], ["mean", "log_var"]),
            Entry("decode", "decode", [z], ["x"], units=psnr),
            Entry(
                "reconstruct",
                "reconstruct",
                [x],
                ["reconstruction"],
                units={"reconstruction": "psnr"},
            ),
            Entry("sample", "sample", [noise], ["x"], units=psnr),
            Entry("elbo", "elbo", [x, noise], nats, units=dict.fromkeys(nats, "nats")),
        ]

    def _walk(self, x: Tensor, noise: Tensor | None) -> Iterator[tuple[_Step, Tensor]]:
        """Yield each step's laws and logits of pixels; without noise the codes are the means."""
        state = self._first_state(x)
        for index, row in enumerate(x[:, 0].unbind(1)):
            mean, log_var = self.posterior(torch.cat([row, state], 1)).chunk(2, 1)
            z = mean if noise is None else reparametrize(mean, log_var, noise[:, index])
            step = _Step(mean, log_var, *self.prior(state).chunk(2, 1))
            yield step, self.decoder(torch.cat([z, state], 1))
            state = self.cell(z, state)

    def _unroll(self, codes: Tensor, *, noise: bool) -> Tensor:
        """Return the pictures of codes, or of the noise that draws them from their priors."""
        state, rows = self._first_state(codes), []
        for code in codes.unbind(1):
            mean, log_var = self.prior(state).chunk(2, 1)
            z = reparametrize(mean, log_var, code) if noise else code
            rows.append(self.decoder(torch.cat([z, state], 1)).sigmoid())
            state = self.cell(z, state)
        return torch.stack(rows, 1)[:, None]

    def _first_state(self, like: Tensor) -> Tensor:
        return self.start.expand(like.shape[0], -1)


@dataclass(frozen=True, slots=True)
class _Step:
    """Posterior and prior of one step's code, `(batch, latent)` each."""

    mean: Tensor
    log_var: Tensor
    prior_mean: Tensor
    prior_log_var: Tensor


model = SequenceVAE
