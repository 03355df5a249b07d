from __future__ import annotations

import pytest
import torch
from torch import nn

from toolkit.nn.rolled import roll

LAYERS = {"LSTM": (nn.LSTM, 2), "GRU": (nn.GRU, 1), "RNN": (nn.RNN, 1)}


@pytest.mark.parametrize("kind", LAYERS)
def test_it_is_torchs_own_layer(kind):
    torch.manual_seed(0)
    layer, count = LAYERS[kind]
    module, x = layer(5, 4).double(), torch.randn(6, 3, 5).double()
    states = [torch.randn(3, 4).double() for _ in range(count)]
    first = tuple(state[None] for state in states)
    expected, _ = module(x, first if count > 1 else first[0])
    with torch.no_grad():
        torch.testing.assert_close(roll(x, states, module.all_weights[0], kind), expected)


@pytest.mark.parametrize("kind", LAYERS)
def test_a_tracer_keeps_any_number_of_steps(kind):
    layer, count = LAYERS[kind]
    module = layer(5, 4)

    class Rolled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = module

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            zeros = [x.new_zeros(x.shape[1], 4)] * count
            return roll(x, zeros, self.layer.all_weights[0], kind)

    time = torch.export.Dim("time", min=1, max=100)
    program = torch.export.export(
        Rolled(), (torch.randn(6, 3, 5),), dynamic_shapes=({0: time},), strict=False
    )
    longer = torch.randn(9, 3, 5)
    torch.testing.assert_close(program.module()(longer), module(longer)[0])
