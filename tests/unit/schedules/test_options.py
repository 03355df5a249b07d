"""A given beginning, temperature, top-k and top-p as inputs of a sampler."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from toolkit.capture.causal.choice import controlled
from toolkit.core.entry import Autoregressive, Input
from toolkit.schedules import rows, scan

LEVELS, LENGTH, BATCH = 6, 8, 3


class Signal(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Conv1d(1, 8, 3), nn.Conv1d(8, LEVELS, 1)

    def forward(self, x):
        return 2 * self.head(torch.tanh(self.layer(F.pad(x, (3, 0))[:, :, :-1])))


class Picture(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, LEVELS, 1)
        mask = torch.ones(3, 3)
        mask[1, 1:] = 0
        mask[2] = 0
        self.register_buffer("mask", mask)

    def forward(self, x):
        weight = self.layer.weight * self.mask
        return 6 * self.head(torch.tanh(F.conv2d(x, weight, self.layer.bias, padding=1)))


def scale(level):
    return level / (LEVELS - 1) - 0.5


def make(kind, **options):
    torch.manual_seed(0)
    if kind == "signal":
        x = Input("x", torch.zeros(2, 1, LENGTH), ("batch", None, "time"))
        sampler = Autoregressive("sample", "forward", x, "time", LEVELS, 1, scale, **options)
        model = Signal().eval()
        return model, scan.schedule(model, sampler).generate, LENGTH
    x = Input("x", torch.zeros(2, 1, 3, 4), ("batch", None, None, None))
    sampler = Autoregressive("sample", "forward", x, "raster", LEVELS, 1, scale, **options)
    model = Picture().eval()
    return model, rows.schedule(model, sampler).generate, 12


def gumbel(positions):
    uniform = torch.rand(positions, BATCH, LEVELS, generator=torch.Generator().manual_seed(2))
    return -(-uniform.clamp(1e-7, 1 - 1e-7).log()).log()


def plain_loop(model, kind, noise, change):
    """Draw with a whole forward per position; `change(position, logits)` gives the level."""
    shape = (BATCH, 1, LENGTH) if kind == "signal" else (BATCH, 1, 3, 4)
    x = torch.zeros(shape)
    drawn = torch.zeros(BATCH, len(noise), dtype=torch.int64)
    for position in range(len(noise)):
        logits = model(x).flatten(2)[:, :, position]
        drawn[:, position] = change(position, logits)
        x.view(BATCH, -1)[:, position] = scale(drawn[:, position])
    return drawn


@torch.no_grad()
@pytest.mark.parametrize("kind", ["signal", "picture"])
def test_what_is_given_is_kept_and_the_rest_follows_from_it(kind):
    model, generate, positions = make(kind, prefix=True)
    noise = gumbel(positions)
    given = torch.full((positions, BATCH), -1)
    given[:4] = torch.randint(LEVELS, (4, BATCH), generator=torch.Generator().manual_seed(5))

    def change(position, logits):
        level = (logits + noise[position]).argmax(1)
        return torch.where(given[position] >= 0, given[position], level)

    drawn = generate(noise, given).flatten(1)
    assert torch.equal(drawn, plain_loop(model, kind, noise, change))
    assert torch.equal(drawn[:, :4], given[:4].T)
    free = generate(noise, torch.full_like(given, -1)).flatten(1)
    assert not torch.equal(drawn[:, 4:], free[:, 4:])


def by_hand(logits, temperature, top_k, top_p):
    """Return the logits of one item, one category at a time."""
    logits = logits / temperature
    order = np.argsort(-logits, kind="stable")[:top_k]
    weights = np.exp(logits[order] - logits[order].max())
    weights /= weights.sum()
    count = int((np.cumsum(weights) - weights < top_p).sum())
    kept = np.full_like(logits, -np.inf)
    kept[order[:count]] = logits[order[:count]]
    return kept


CONTROLS = (
    torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64),
    torch.tensor([LEVELS, 2, 4]),
    torch.tensor([1.0, 0.9, 0.6], dtype=torch.float64),
)


def test_controls_leave_what_is_left_by_hand():
    draws = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(50, BATCH, LEVELS, generator=draws, dtype=torch.float64)
    found = controlled(logits, *CONTROLS)
    for item in range(BATCH):
        values = [float(control[item]) for control in CONTROLS]
        values[1] = int(values[1])
        expected = [by_hand(row, *values) for row in logits[:, item].numpy()]
        np.testing.assert_allclose(found[:, item].numpy(), np.stack(expected))
    assert torch.isinf(found[:, 1:]).any()


@torch.no_grad()
@pytest.mark.parametrize("kind", ["signal", "picture"])
def test_controls_are_heeded_at_every_position(kind):
    model, generate, positions = make(kind, controls=True)
    noise = gumbel(positions)
    controls = [control.float() if control.is_floating_point() else control for control in CONTROLS]

    def change(position, logits):
        return (controlled(logits, *controls) + noise[position]).argmax(1)

    drawn = generate(noise, *controls).flatten(1)
    assert torch.equal(drawn, plain_loop(model, kind, noise, change))
    greedy = [controls[0], torch.ones_like(controls[1]), controls[2]]
    largest = plain_loop(model, kind, noise, lambda _, logits: logits.argmax(1))
    assert torch.equal(generate(noise, *greedy).flatten(1), largest)
    assert not torch.equal(drawn, largest)
