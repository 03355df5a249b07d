from __future__ import annotations

import torch
from torch import Tensor, nn

from toolkit.objectives.importance import objective


class Tilted(nn.Module):
    """The density `1 + slope · (x − 1/2)` on the unit interval, beside another of the same kind."""

    def __init__(self, slope: float, wanted: float) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(slope, dtype=torch.float64))
        self.wanted = wanted

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        half = 1 - self.slope / 2
        x = 2 * z / (half + torch.sqrt(half**2 + 2 * self.slope * z))
        return x, -self.log_prob(x)

    def log_prob(self, x: Tensor) -> Tensor:
        return torch.log1p(self.slope * (x - 0.5)).sum(1)

    def log_integrand(self, x: Tensor) -> Tensor:
        return torch.log(3 * (1 + self.wanted * (x - 0.5))).sum(1)


NOISE = {"x": (torch.arange(4096, dtype=torch.float64)[:, None] + 0.5) / 4096}


def test_the_integrands_own_density_costs_nothing_and_is_certain():
    values = objective(Tilted(1.2, 1.2), NOISE)
    torch.testing.assert_close(values["loss"], torch.zeros(()).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(values["deviation"], torch.zeros(()).double(), rtol=0, atol=1e-7)


def test_deviation_is_that_of_integrand_over_density():
    values = objective(Tilted(0.0, 1.2), NOISE)
    torch.testing.assert_close(values["deviation"], torch.tensor(1.2 / 12**0.5).double())


def test_the_gradient_is_that_of_the_divergence():
    model = Tilted(0.4, 1.2)
    objective(model, NOISE)["loss"].backward()

    def divergence(slope: float) -> float:
        x = NOISE["x"]
        wanted = 1 + 1.2 * (x - 0.5)
        distance = torch.log(wanted) - torch.log(1 + slope * (x - 0.5))
        return (wanted * distance**2).mean().item()

    expected = (divergence(0.4 + 1e-4) - divergence(0.4 - 1e-4)) / 2e-4
    torch.testing.assert_close(model.slope.grad.item(), expected, rtol=1e-4, atol=0)
