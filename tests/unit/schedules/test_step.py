"""The step entry: zero states first, one position after the other, gives the whole forward."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from toolkit.core.entry import Autoregressive, Input
from toolkit.schedules.scan import schedule

LENGTH, LEVELS = 9, 4


class Started(nn.Module):
    """A recurrent network that begins with a vector of its own, behind a dilated convolution."""

    def __init__(self):
        super().__init__()
        self.token, self.start = nn.Embedding(LEVELS, 6), nn.Parameter(torch.randn(1, 1, 6))
        self.layer = nn.Conv1d(6, 6, 2, dilation=3)
        self.cell, self.head = nn.GRU(6, 6, batch_first=True), nn.Linear(6, LEVELS)

    def forward(self, tokens):
        x = self.token(tokens)
        x = torch.cat([self.start.expand(len(x), -1, -1), x[:, :-1]], 1)
        x = self.layer(F.pad(x.transpose(1, 2), (3, 0))).transpose(1, 2)
        return self.head(self.cell(x)[0])


@pytest.fixture(scope="module")
def laid():
    torch.manual_seed(0)
    x = torch.zeros(2, LENGTH, dtype=torch.int64)
    item = Input("x", x, ("batch", "time"), high=LEVELS - 1)
    sampler = Autoregressive("sample", "forward", item, "time", LEVELS, 2)
    model = Started().eval()
    return model, schedule(model, sampler)


@torch.no_grad()
@pytest.mark.parametrize("batch", [1, 3])
def test_steps_from_zero_states_give_the_whole_forward(laid, batch):
    model, scheduled = laid
    tokens = torch.randint(LEVELS, (batch, LENGTH))
    states, expected = scheduled.step.zeros(batch), model(tokens)
    assert not any(state.any() for state in states)
    for time in range(LENGTH):
        logits, *states = scheduled.step(tokens[:, time], torch.tensor(time), *states)
        assert torch.allclose(logits, expected[:, time], atol=1e-5)


def test_names_and_examples_fit_the_module(laid):
    _, scheduled = laid
    column, time, *states = scheduled.inputs
    assert (column.name, time.name) == ("x", "time")
    assert all(item.kind == "state" and "batch" in item.dims for item in states)
    assert any(item.value.any() for item in states)
    given = [item.value for item in scheduled.inputs]
    results = scheduled.step(*given)
    assert len(results) == len(scheduled.outputs) == 1 + len(states)
    for item, result in zip(states, results[1:], strict=True):
        assert item.value.shape == result.shape
