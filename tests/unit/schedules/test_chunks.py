"""Chunks: given beginnings, controls, conditioning, shared lanes, and the certificate."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from toolkit.capture.causal.choice import controlled
from toolkit.capture.causal.hierarchy import derive_chunks
from toolkit.core.entry import Autoregressive, Input
from toolkit.core.errors import ExportError
from toolkit.schedules import chunks
from toolkit.schedules._confirm import confirm

LEVELS, LENGTH, BATCH = 5, 53, 3


class Conditioned(nn.Module):
    """Filters and gates are layers of their own; a class and a sequence condition every layer."""

    def __init__(self, dilations=(41, 1, 9, 2), channels=6):
        super().__init__()
        self.dilations = dilations
        self.first = nn.Conv1d(1, channels, 1)

        def layers(made):
            return nn.ModuleList(made(d) for d in dilations)

        self.filters = layers(lambda d: nn.Conv1d(channels, channels, 3, dilation=d))
        self.gates = layers(lambda d: nn.Conv1d(channels, channels, 3, dilation=d))
        self.classes = layers(lambda _: nn.Linear(2, channels))
        self.local = layers(lambda _: nn.Conv1d(2, channels, 1))
        self.mixes = layers(lambda _: nn.Conv1d(channels, channels, 1))
        self.skips = layers(lambda _: nn.Conv1d(channels, LEVELS, 1))

    def forward(self, x, kind, features):
        h = self.first(F.pad(x, (1, 0))[:, :, :-1])
        total = 0
        for number, dilation in enumerate(self.dilations):
            padded = F.pad(h, (2 * dilation, 0))
            filtered = self.filters[number](padded) + self.classes[number](kind).unsqueeze(-1)
            gate = self.gates[number](padded) + self.local[number](features)
            gated = torch.tanh(filtered) * torch.sigmoid(gate)
            total, h = total + self.skips[number](gated), h + self.mixes[number](gated)
        return 8 * total


def scale(level):
    return level / (LEVELS - 1) - 0.5


def sampler(**options):
    x = Input("x", torch.zeros(2, 1, LENGTH), ("batch", None, "time"))
    draws = torch.Generator().manual_seed(3)
    kind = Input("kind", torch.randn(2, 2, generator=draws), ("batch", None), kind="context")
    features = Input(
        "features",
        torch.randn(2, 2, LENGTH, generator=draws),
        ("batch", None, None),
        kind="context",
    )
    return Autoregressive(
        "sample",
        "forward",
        x,
        "time",
        LEVELS,
        1,
        scale,
        context=[kind, features],
        **options,
    )


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return Conditioned().eval()


@torch.no_grad()
def test_options_and_conditioning_are_heeded(model):
    declared = sampler(prefix=True, controls=True)
    scheduled = chunks.schedule(model, declared)
    draws = torch.Generator().manual_seed(1)
    uniform = torch.rand(LENGTH, BATCH, LEVELS, generator=draws).clamp(1e-7, 1 - 1e-7)
    noise = -(-uniform.log()).log()
    given = torch.full((LENGTH, BATCH), -1)
    given[:7] = torch.randint(LEVELS, (7, BATCH), generator=draws)
    controls = (
        torch.tensor([0.5, 1.0, 2.0]),
        torch.tensor([5, 3, 4]),
        torch.tensor([1.0, 0.9, 0.7]),
    )
    context = (torch.randn(BATCH, 2), torch.randn(BATCH, 2, LENGTH))
    x, expected = torch.zeros(BATCH, 1, LENGTH), torch.zeros(BATCH, 1, LENGTH, dtype=torch.int64)
    for position in range(LENGTH):
        logits = controlled(model(x, *context)[:, :, position], *controls)
        level = (logits + noise[position]).argmax(1)
        expected[:, 0, position] = torch.where(given[position] >= 0, given[position], level)
        x[:, 0, position] = scale(expected[:, 0, position])
    assert torch.equal(scheduled.generate(noise, given, *controls, *context), expected)
    assert len(expected.unique()) > 1


def test_layers_that_read_one_lane_share_its_queue(model):
    derived = derive_chunks(model, sampler())
    assert derived.sizes == (40, 8)
    assert [(far.chunk, len(far.nodes)) for far in derived.far] == [(40, 2), (8, 2)]


@torch.no_grad()
def test_the_whole_network_notices_a_dropped_tap(model):
    declared = sampler()
    generate = chunks.ChunkSampler(derive_chunks(model, declared), declared, torch.float64)
    confirm(model, declared, generate)
    weight = generate.get_buffer(generate.weights[-2])
    weight[-6:] = 0
    with pytest.raises(ExportError, match="chooses otherwise"):
        confirm(model, declared, generate)


def test_near_taps_are_left_to_a_plain_scan():
    with pytest.raises(ExportError, match="at least 8 positions back"):
        chunks.schedule(Conditioned((1, 2, 4)).eval(), sampler())
