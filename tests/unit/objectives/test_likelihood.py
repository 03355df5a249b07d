from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from toolkit.objectives.likelihood import objective


class Uniform(nn.Module):
    """The uniform density on the unit cube, or uniform levels where it knows no bin width."""

    def __init__(self, log_prob: float) -> None:
        super().__init__()
        self.value = log_prob

    def log_prob(self, x: Tensor) -> Tensor:
        return torch.full((len(x),), self.value)


def test_a_uniform_density_costs_the_bits_of_the_levels():
    model = Uniform(0.0)
    model.bin_width = 1 / 16
    values = objective(model, {"x": torch.rand(3, 1, 4, 4)})
    assert values["loss"] == 0
    torch.testing.assert_close(values["bits_per_dim"], torch.tensor(4.0))


def test_uniform_probabilities_cost_the_same_bits():
    values = objective(Uniform(-16 * math.log(16)), {"x": torch.rand(3, 1, 4, 4)})
    torch.testing.assert_close(values["bits_per_dim"], torch.tensor(4.0))
    torch.testing.assert_close(values["loss"], torch.tensor(16 * math.log(16)))
