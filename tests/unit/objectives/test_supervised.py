from __future__ import annotations

import math

import torch
from torch import nn

from toolkit.objectives.supervised import objective


def test_accuracy_is_in_percent_and_loss_in_nats():
    logits = torch.tensor([[9.0, 0, 0], [0, 9, 0], [0, 0, 9], [9, 0, 0]])
    values = objective(nn.Identity(), {"x": logits, "label": torch.tensor([0, 1, 2, 1])})
    assert values["accuracy"] == 75

    even = objective(nn.Identity(), {"x": torch.zeros(2, 4), "label": torch.tensor([0, 3])})
    torch.testing.assert_close(even["loss"], torch.tensor(math.log(4)))
