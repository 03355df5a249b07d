"""Every objective of the registry gives named scalars and a loss that gradients flow from."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from toolkit.core import registry
from toolkit.core.protocols import Turn

NAMES = registry.objectives.names()


def turns(name: str) -> tuple[Turn, ...]:
    """Return the turns of an objective that is a game; none of another."""
    return tuple(getattr(registry.objectives.load(name), "turns", ()))


class Everything(nn.Module):
    """A classifier, a density, an autoencoder, two players and a Q network at once."""

    noise_shape = (2,)
    instance_noise = 0.0
    penalty = 10.0
    discount = 0.9

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 5)

    def forward(self, x: Tensor, target: Tensor | None = None) -> Tensor:
        logits = self.linear(x)
        return logits if target is None else logits[:, None].expand(-1, target.shape[1], -1)

    def log_prob(self, x: Tensor) -> Tensor:
        return -self.linear(x).square().sum(1)

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return z, torch.zeros(len(z))

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.linear(x)[:, :3]

    def elbo(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        log_likelihood, kl = self.log_prob(x), self.linear(x).square().mean(1)
        return log_likelihood - kl, log_likelihood, kl

    def generate(self, noise: Tensor) -> Tensor:
        return self.linear.bias[:3].expand(len(noise), -1)

    def discriminate(self, x: Tensor) -> Tensor:
        return self.linear(x).sum(1)

    def log_integrand(self, x: Tensor) -> Tensor:
        return -x.square().sum(1)

    def target_value(self, x: Tensor) -> Tensor:
        return x.sum(1)

    def follow(self) -> None:
        """Keep the target where it is: it has no weights."""


@pytest.fixture
def batch() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "x": torch.randn(6, 3, generator=generator),
        "label": torch.randint(5, (6,), generator=generator),
        "target": torch.randint(5, (6, 4), generator=generator),
        "points": torch.randn(6, 5, generator=generator),
        "value": torch.randn(6, 5, generator=generator),
        "action": torch.randint(5, (6,), generator=generator),
        "reward": torch.randn(6, generator=generator),
        "next": torch.randn(6, 3, generator=generator),
        "done": torch.rand(6, generator=generator) < 0.5,
    }


@pytest.mark.parametrize("name", NAMES)
def test_values_are_finite_scalars(name, batch):
    values = registry.objectives.load(name)(Everything(), batch)
    assert registry.objectives.summary(name)
    assert "loss" in values
    for value in values.values():
        assert value.shape == ()
        assert value.isfinite()


@pytest.mark.parametrize("name", NAMES)
def test_a_step_along_the_gradient_lowers_the_loss(name, batch):
    torch.manual_seed(0)
    model, objective = Everything(), registry.objectives.load(name)
    before = objective(model, batch)["loss"]
    before.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= 1e-3 * parameter.grad
    assert objective(model, batch)["loss"] < before


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_is_a_mean_over_samples(name, batch):
    torch.manual_seed(0)
    model, objective = Everything(), registry.objectives.load(name)
    twice = {key: torch.cat([tensor, tensor]) for key, tensor in batch.items()}
    torch.testing.assert_close(objective(model, twice)["loss"], objective(model, batch)["loss"])


@pytest.mark.parametrize("name", [name for name in NAMES if turns(name)])
def test_the_first_players_loss_is_the_objectives_and_every_turn_lowers_its_own(name, batch):
    torch.manual_seed(0)
    model = Everything()
    first, *others = turns(name)
    values = registry.objectives.load(name)(model, batch)
    torch.testing.assert_close(first.loss(model, batch), values["loss"])
    for turn in (first, *others):
        model.zero_grad()
        before = turn.loss(model, batch)
        before.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 1e-3 * parameter.grad
        assert turn.loss(model, batch) < before
    assert others
    assert first.every == 1
