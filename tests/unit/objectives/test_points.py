from __future__ import annotations

import pytest
import torch
from torch import nn

from toolkit.objectives.points import objective


class Shifted(nn.Module):
    given = ("shift",)

    def forward(self, x, shift):
        return x + shift, x


def test_distances_are_euclidean_and_what_is_given_reaches_the_model():
    x = torch.randn(2, 4, 2)
    shift = torch.tensor([[[3.0, 4.0]], [[0.0, 1.0]]])
    values = objective(Shifted(), {"x": x, "points": x, "shift": shift})
    assert float(values["loss"]) == pytest.approx(3.0, rel=1e-5)
    assert float(values["rms"]) == pytest.approx(13**0.5, rel=1e-5)


def test_points_that_are_met_give_no_gradient_and_no_nan():
    x = torch.zeros(2, 3, requires_grad=True)
    objective(nn.Identity(), {"x": x, "points": torch.zeros(2, 3)})["loss"].backward()
    assert torch.equal(x.grad, torch.zeros(2, 3))
