"""Wasserstein training: the critic estimates the earth mover's distance, its slope held at one."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from toolkit.core.protocols import Turn
from toolkit.nn.distances import sliced_wasserstein
from toolkit.objectives._generated import generated

CRITIC_STEPS = 5


class EarthMover:
    """The critic grows apart on real and generated samples, the generator brings them together.

    Calling it returns the critic's `loss`; its estimate `earth_mover` of the distance between real
    and generated samples, in units of a pixel's value, root of the sum of squares over a picture;
    the gradient `penalty`; and `sliced_wasserstein`, which asks no critic.

    The model has the parts `discriminator`, the critic, and `generator`, `noise_shape`,
    `generate(noise)`, `discriminate(x)` to numbers `(batch,)`, and `penalty`, the weight of the
    gradient penalty. The critic moves on every batch, the generator on every fifth.

    References:
        Wasserstein GAN, arXiv 1701.07875. Improved Training of Wasserstein GANs, arXiv 1704.00028.
    """

    def __init__(self) -> None:
        self.turns = (
            Turn("discriminator", critic_loss),
            Turn("generator", generator_loss, every=CRITIC_STEPS),
        )

    def __call__(self, model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the scalars of the record."""
        real, fake = batch["x"], generated(model, batch["x"])
        distance, penalty = earth_mover(model, real, fake), gradient_penalty(model, real, fake)
        return {
            "loss": model.penalty * penalty - distance,  # type: ignore[operator]
            "earth_mover": distance,
            "penalty": penalty,
            "sliced_wasserstein": sliced_wasserstein(fake, real),
        }


def critic_loss(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """Return the weighted gradient penalty less the critic's estimate of the distance."""
    real, fake = batch["x"], generated(model, batch["x"])
    weight: float = model.penalty  # type: ignore[assignment]
    return weight * gradient_penalty(model, real, fake) - earth_mover(model, real, fake)


def generator_loss(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """Return `−D(G(z))`, a mean over as many samples as the batch has."""
    judged: Tensor = model.discriminate(generated(model, batch["x"]))  # type: ignore[operator]
    return -judged.mean()


def earth_mover(model: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    """Return `E D(real) − E D(fake)`: at most the distance where the critic's slope is at most 1.

    A critic that reaches it is Kantorovich's dual solution.
    """
    apart: Tensor = model.discriminate(real).mean() - model.discriminate(fake).mean()  # type: ignore[operator]
    return apart


def gradient_penalty(model: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    """Return the mean of `(‖∇D‖ − 1)²` at random points between pairs of samples."""
    with torch.enable_grad():
        share = torch.rand(len(real), *[1] * (real.ndim - 1), dtype=real.dtype, device=real.device)
        points = (share * real + (1 - share) * fake).detach().requires_grad_()
        total = model.discriminate(points).sum()  # type: ignore[operator]
        (gradient,) = torch.autograd.grad(total, points, create_graph=True)
        slope: Tensor = gradient.flatten(1).norm(dim=1)
        return (slope - 1).square().mean()


objective = EarthMover()
