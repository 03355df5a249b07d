from __future__ import annotations

import math

import torch
from torch import nn

from toolkit.objectives.bernoulli import objective


def test_the_loss_sums_over_classes_and_averages_over_samples():
    batch = {"x": torch.zeros(3, 4), "label": torch.tensor([0, 1, 2])}
    torch.testing.assert_close(
        objective(nn.Identity(), batch)["loss"], torch.tensor(4 * math.log(2))
    )


def test_accuracy_is_that_of_the_largest_logit():
    logits = torch.tensor([[9.0, 8, 0], [0, 9, 0]])
    values = objective(nn.Identity(), {"x": logits, "label": torch.tensor([0, 2])})
    assert values["accuracy"] == 50
