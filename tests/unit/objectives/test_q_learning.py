from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from toolkit.objectives.q_learning import objective


class Table(nn.Module):
    """Q values of two states, which are their own numbers, and a target that is worth 2."""

    discount = 0.5

    def __init__(self) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.tensor([[1.0, 3.0], [0.0, 5.0]]))
        self.steps = 0

    def forward(self, x: Tensor) -> Tensor:
        return self.values[x]

    def target_value(self, x: Tensor) -> Tensor:
        return torch.full((len(x),), 2.0)

    def follow(self) -> None:
        self.steps += 1


BATCH = {
    "x": torch.tensor([0, 1]),
    "action": torch.tensor([0, 1]),
    "reward": torch.tensor([1.0, 1.0]),
    "next": torch.tensor([1, 0]),
    "done": torch.tensor([False, True]),
}


def test_the_end_has_no_future_and_large_errors_count_linearly():
    values = objective(Table(), BATCH)
    assert values["td_error"].item() == pytest.approx((abs(1 - 2) + abs(5 - 1)) / 2)
    assert values["loss"].item() == pytest.approx((0.5 + (4 - 0.5)) / 2)


def test_gradients_reach_the_actions_that_were_taken_and_no_others():
    model = Table()
    objective(model, BATCH)["loss"].backward()
    assert (model.values.grad != 0).tolist() == [[True, False], [False, True]]


def test_the_target_follows_in_training_alone():
    model = Table()
    objective(model, BATCH)
    assert model.steps == 1
    objective(model.eval(), BATCH)
    assert model.steps == 1
