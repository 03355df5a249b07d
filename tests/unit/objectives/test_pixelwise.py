from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from toolkit.objectives.pixelwise import objective


def logits_of(labels: torch.Tensor, classes: int) -> torch.Tensor:
    return 9 * F.one_hot(labels, classes).permute(0, 3, 1, 2).float()


def test_accuracy_counts_pixels_and_mean_iou_classes():
    truth = torch.tensor([[[0, 0], [0, 1]]])
    chosen = torch.tensor([[[0, 0], [2, 1]]])
    values = objective(nn.Identity(), {"x": logits_of(chosen, 3), "label": truth})
    assert values["accuracy"] == 75
    assert values["mean_iou"] == pytest.approx(100 * (2 / 3 + 1) / 2)


def test_the_loss_is_the_mean_over_all_pixels():
    x, label = torch.randn(2, 3, 4, 5), torch.randint(3, (2, 4, 5))
    loss = objective(nn.Identity(), {"x": x, "label": label})["loss"]
    expected = -x.log_softmax(1).gather(1, label[:, None]).mean()
    torch.testing.assert_close(loss, expected)
