from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from toolkit.objectives.auxiliary import objective


class Heads(nn.Module):
    def forward(self, x):
        return x, 2 * x, 3 * x


def test_auxiliary_heads_count_three_tenths_each_and_not_towards_accuracy():
    x, label = torch.tensor([[1.0, 0], [0, 1]]), torch.tensor([0, 0])
    values = objective(Heads(), {"x": x, "label": label})
    parts = [F.cross_entropy(factor * x, label) for factor in (1, 2, 3)]
    torch.testing.assert_close(values["loss"], parts[0] + 0.3 * (parts[1] + parts[2]))
    assert values["accuracy"] == 50


def test_one_head_alone_is_plain_cross_entropy():
    x, label = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    loss = objective(nn.Identity(), {"x": x, "label": label})["loss"]
    torch.testing.assert_close(loss, F.cross_entropy(x, label))
