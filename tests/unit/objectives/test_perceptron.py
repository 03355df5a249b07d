from __future__ import annotations

import torch
from torch import nn

from toolkit.objectives.perceptron import objective


def test_right_samples_cost_nothing_and_wrong_ones_their_distance():
    scores = torch.tensor([[2.0, 1, 0], [0, 3, 1]])
    values = objective(nn.Identity(), {"x": scores, "label": torch.tensor([0, 2])})
    assert values["loss"] == 1
    assert values["accuracy"] == 50
