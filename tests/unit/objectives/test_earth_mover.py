from __future__ import annotations

import pytest
import torch
from scipy.stats import wasserstein_distance
from torch import Tensor, nn

from toolkit.objectives.earth_mover import earth_mover, gradient_penalty, objective

DIRECTION = torch.tensor([0.6, -0.8], dtype=torch.float64)


class Players(nn.Module):
    """A critic that is given; the generator moves noise."""

    noise_shape = (2,)
    penalty = 10.0

    def __init__(self, critic) -> None:
        super().__init__()
        self.discriminate = critic
        self.generator = nn.Linear(2, 2).double()

    def generate(self, noise: Tensor) -> Tensor:
        return self.generator(noise)


def linear(slope: float) -> Players:
    return Players(lambda x: slope * (x @ DIRECTION))


def cloud(seed: int = 0, features: int = 2, count: int = 256) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, features, generator=generator, dtype=torch.float64)


def test_the_penalty_is_nothing_at_slope_one_and_sees_a_slope_of_two():
    x, y = cloud(), cloud(1)
    assert gradient_penalty(linear(1.0), x, y).item() == pytest.approx(0, abs=1e-20)
    assert gradient_penalty(linear(2.0), x, y).item() == pytest.approx(1)
    assert gradient_penalty(linear(0.0), x, y).item() == pytest.approx(1)


def test_the_penalty_looks_between_the_samples():
    # Slope 1 to the left of 0, 3 to its right; the samples lie at -1 and 1.
    bent = Players(lambda x: torch.where(x > 0, 3 * x, x)[:, 0])
    left, right = (torch.full((4000, 1), side, dtype=torch.float64) for side in (-1.0, 1.0))
    torch.manual_seed(0)
    assert gradient_penalty(bent, left, left).item() == pytest.approx(0)
    assert gradient_penalty(bent, right, right).item() == pytest.approx(4)
    assert gradient_penalty(bent, left, right).item() == pytest.approx(2, rel=0.1)


def test_the_penalty_teaches_the_critic_and_is_known_without_gradients_too():
    critic = nn.Linear(2, 1, bias=False).double()
    nn.init.constant_(critic.weight, 2.0)
    model = Players(lambda x: critic(x)[:, 0])
    with torch.no_grad():
        silent = gradient_penalty(model, cloud(), cloud(1))
    found = gradient_penalty(model, cloud(), cloud(1))
    assert silent.item() == pytest.approx(found.item())
    found.backward()
    assert critic.weight.grad.min() > 0


def test_the_distance_of_a_shifted_cloud_is_the_shift():
    x = cloud()
    shifted = x - 0.7 * DIRECTION
    assert earth_mover(linear(1.0), x, shifted).item() == pytest.approx(0.7)


def test_no_critic_of_slope_one_exceeds_the_distance():
    x, y = cloud(features=1), 1 + 2 * cloud(1, features=1)
    distance = wasserstein_distance(x[:, 0], y[:, 0])
    for critic in (lambda v: -v[:, 0], lambda v: v.abs()[:, 0], lambda v: v.sin()[:, 0]):
        assert earth_mover(Players(critic), x, y) < distance + 1e-9


def test_kantorovichs_critic_gives_scipys_distance():
    # The best slope at t is the sign of F_fake(t) − F_real(t): clouds that are not just shifted.
    x, y = cloud(features=1), 0.2 + 2 * cloud(1, features=1)
    grid = torch.linspace(-12, 12, 48_001, dtype=torch.float64)
    share = [torch.searchsorted(v[:, 0].sort().values, grid, right=True) / len(v) for v in (x, y)]
    height = torch.cumsum(torch.sign(share[1] - share[0]), 0) * (grid[1] - grid[0])
    best = Players(lambda v: height[torch.searchsorted(grid, v[:, 0].contiguous())])
    expected = wasserstein_distance(x[:, 0], y[:, 0])
    assert earth_mover(best, x, y).item() == pytest.approx(expected, rel=2e-3)


def test_a_trained_critic_comes_near_scipys_distance():
    torch.manual_seed(0)
    x, y = cloud(features=1, count=64).float(), 0.2 + 2 * cloud(1, features=1, count=64).float()
    critic = nn.Sequential(nn.Linear(1, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU()).append(
        nn.Linear(32, 1)
    )
    model = Players(lambda v: critic(v)[:, 0])
    optimizer = torch.optim.Adam(critic.parameters(), lr=5e-3, betas=(0.0, 0.9))
    for _ in range(600):
        optimizer.zero_grad()
        loss = 10 * gradient_penalty(model, x, y) - earth_mover(model, x, y)
        loss.backward()
        optimizer.step()
    expected = wasserstein_distance(x[:, 0], y[:, 0])
    assert earth_mover(model, x, y).item() == pytest.approx(expected, rel=0.15)


def test_the_record_holds_distance_and_penalty_of_what_is_generated():
    model = linear(2.0)
    nn.init.zeros_(model.generator.weight)
    nn.init.zeros_(model.generator.bias)
    x = torch.zeros(8, 2, dtype=torch.float64) + 0.5 * DIRECTION
    values = objective(model, {"x": x})
    assert values["earth_mover"].item() == pytest.approx(1)
    assert values["penalty"].item() == pytest.approx(1)
    assert values["loss"].item() == pytest.approx(10 - 1)


def test_the_generator_moves_on_every_fifth_batch():
    assert [(turn.player, turn.every) for turn in objective.turns] == [
        ("discriminator", 1),
        ("generator", 5),
    ]
