from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from toolkit.objectives.adversarial import discriminator_loss, generator_loss, objective


class Players(nn.Module):
    """Generates one number; judges by what it is told to."""

    noise_shape = (1,)
    instance_noise = 0.0

    def __init__(self, judge=torch.zeros_like) -> None:
        super().__init__()
        self.judge = judge
        self.generator = nn.Linear(1, 1, bias=True)
        self.discriminator = nn.Linear(1, 1)

    def generate(self, noise: Tensor) -> Tensor:
        return self.generator(noise)

    def discriminate(self, x: Tensor) -> Tensor:
        return self.judge(x)[:, 0]


def batch(count: int = 64) -> dict[str, Tensor]:
    return {"x": torch.full((count, 1), 5.0)}


def test_a_discriminator_that_cannot_tell_loses_two_log_two():
    values = objective(Players(), batch())
    assert values["loss"].item() == pytest.approx(2 * math.log(2))
    assert values["generator_loss"].item() == pytest.approx(math.log(2))


def test_the_best_discriminators_loss_is_two_log_two_less_the_jensen_shannon_divergence():
    # Real 0 or 1, generated 1 or 2, each with probability a half: the divergence is log(2) / 2.
    model = Players(lambda x: torch.where(x < 0.5, 40.0, torch.where(x > 1.5, -40.0, 0.0)))
    model.generate = lambda noise: torch.arange(len(noise))[:, None] % 2 + 1.0
    real = {"x": torch.arange(64.0)[:, None] % 2}
    expected = 2 * math.log(2) - 2 * math.log(2) / 2
    assert discriminator_loss(model, real).item() == pytest.approx(expected)


def test_a_discriminator_that_tells_loses_nothing_and_the_generator_does():
    model = Players(lambda x: 20 * (x - 3))
    assert discriminator_loss(model, batch()).item() < 1e-6
    assert generator_loss(model, batch()).item() > 20


def test_the_generators_gradient_does_not_saturate():
    model = Players(lambda x: 20 * (x - 3))
    nn.init.zeros_(model.generator.weight)
    generator_loss(model, batch()).backward()
    assert model.generator.bias.grad.item() == pytest.approx(-20, rel=1e-3)
    model.zero_grad()
    (-discriminator_loss(model, batch())).backward()
    assert abs(model.generator.bias.grad.item()) < 1e-3


def test_instance_noise_reaches_what_the_discriminator_sees_and_nothing_else():
    seen: list[Tensor] = []
    model = Players(lambda x: seen.append(x) or torch.zeros_like(x))
    model.instance_noise = 0.5
    torch.manual_seed(0)
    discriminator_loss(model, batch(20_000))
    assert seen[0].mean().item() == pytest.approx(5, abs=0.02)
    assert seen[0].std().item() == pytest.approx(0.5, rel=0.02)
    slope, offset = model.generator.weight.item(), model.generator.bias.item()
    assert seen[1].mean().item() == pytest.approx(offset, abs=0.03)
    assert seen[1].std().item() == pytest.approx(math.hypot(slope, 0.5), rel=0.03)


def test_the_distance_is_that_of_what_is_generated():
    model = Players()
    nn.init.zeros_(model.generator.weight)
    nn.init.constant_(model.generator.bias, 5.0)
    assert objective(model, batch())["sliced_wasserstein"].item() == 0
    nn.init.constant_(model.generator.bias, 3.0)
    assert objective(model, batch())["sliced_wasserstein"].item() == pytest.approx(2)
