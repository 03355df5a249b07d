"""Generative adversarial training: the generator's loss does not saturate."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from toolkit.core.protocols import Turn
from toolkit.nn.distances import sliced_wasserstein
from toolkit.objectives._generated import generated


class Adversarial:
    """The discriminator tells real from generated samples, the generator makes it fail.

    Calling it returns, in nats per sample, the discriminator's `loss` (2 log 2 = 1.386 where it
    cannot tell) and `generator_loss`; and `sliced_wasserstein`, the distance of the generated
    samples from those of the batch.

    The model has the parts `discriminator` and `generator`, `noise_shape`, `generate(noise)`,
    `discriminate(x)` to logits `(batch,)`, and `instance_noise`, the deviation of the noise that
    the discriminator's input is given.

    References:
        Generative Adversarial Networks, arXiv 1406.2661. Instance noise: arXiv 1610.04490.
    """

    def __init__(self) -> None:
        self.turns = (
            Turn("discriminator", discriminator_loss),
            Turn("generator", generator_loss),
        )

    def __call__(self, model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the scalars of the record."""
        return {
            "loss": discriminator_loss(model, batch),
            "generator_loss": generator_loss(model, batch),
            "sliced_wasserstein": sliced_wasserstein(generated(model, batch["x"]), batch["x"]),
        }


def discriminator_loss(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """Return `−log D(x) − log(1 − D(G(z)))`, a mean over the batch, in nats."""
    real, fake = batch["x"], generated(model, batch["x"])
    return F.softplus(-_logits(model, real)).mean() + F.softplus(_logits(model, fake)).mean()


def generator_loss(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """Return `−log D(G(z))`, a mean over as many samples as the batch has, in nats."""
    return F.softplus(-_logits(model, generated(model, batch["x"]))).mean()


def _logits(model: nn.Module, x: Tensor) -> Tensor:
    logits: Tensor = model.discriminate(x + model.instance_noise * torch.randn_like(x))  # type: ignore[operator]
    return logits


objective = Adversarial()
