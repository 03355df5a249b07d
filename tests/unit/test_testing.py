"""The assertion for pytest users passes on a good model and names what is wrong with a bad one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from toolkit import Entry, Input
from toolkit.testing import assert_parity

X = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
ENTRY = Entry("forward", inputs=[Input("x", X, dims=("batch", None))])


class Determinant(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.special.airy_ai(x).sum(1)


def test_passes_on_a_good_model() -> None:
    assert_parity(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), [ENTRY])


def test_names_what_is_wrong() -> None:
    with pytest.raises(AssertionError, match="airy_ai"):
        assert_parity(Determinant(), [ENTRY])
