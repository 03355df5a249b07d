"""Samplers of real numbers: each draws what the plain loop draws, and knows a planted fault."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import toolkit
from toolkit.core.entry import Autoregressive, Input
from toolkit.core.errors import ExportError
from toolkit.core.registry import schedules

BATCH, COMPONENTS = 3, 4


class WaveNet(nn.Module):
    """Dilated convolutions, padded on the left; position t speaks of sample t."""

    def __init__(self, parameters, channels=1):
        super().__init__()
        self.first = nn.Conv1d(channels, 8, 2)
        self.layers = nn.ModuleList(nn.Conv1d(8, 16, 2, dilation=d) for d in (1, 2))
        self.last = nn.Conv1d(8, parameters, 1)

    def forward(self, x):
        h = self.first(F.pad(x, (2, 0))[:, :, :-1])
        for layer in self.layers:
            a, b = layer(F.pad(h, (layer.dilation[0], 0))).chunk(2, dim=1)
            h = h + torch.tanh(a) * torch.sigmoid(b)
        return 2 * self.last(h)


class Recurrent(nn.Module):
    """A recurrent network that reads numbers; position t speaks of number t + 1."""

    def __init__(self, parameters):
        super().__init__()
        self.cell, self.head = nn.LSTM(2, 8, batch_first=True), nn.Linear(8, parameters)

    def forward(self, x):
        return 4 * self.head(self.cell(x)[0])


class Attending(nn.Module):
    """One layer of causal attention over numbers."""

    def __init__(self, parameters):
        super().__init__()
        self.read, self.qkv = nn.Linear(2, 8), nn.Linear(8, 24)
        self.head = nn.Linear(8, parameters)

    def forward(self, x):
        h = self.read(x)
        q, k, v = self.qkv(h).unsqueeze(1).chunk(3, -1)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return 2 * self.head(torch.tanh(h + mixed.squeeze(1)))


class Picture(nn.Module):
    """A masked convolution over pictures of two channels, drawn together at each pixel."""

    def __init__(self, parameters):
        super().__init__()
        self.layer, self.head = nn.Conv2d(2, 8, 3, padding=1), nn.Conv2d(8, parameters, 1)
        mask = torch.ones(3, 3)
        mask[1, 1:] = 0
        mask[2] = 0
        self.register_buffer("mask", mask)

    def forward(self, x):
        weight = self.layer.weight * self.mask
        return 2 * self.head(torch.tanh(F.conv2d(x, weight, self.layer.bias, padding=1)))


@dataclass(frozen=True)
class Case:
    """A network, the example of its input, where its parameters lie, and its schedule."""

    network: Any
    shape: tuple[int, ...]
    dims: tuple[str | None, ...]
    schedule: str
    axis: int = -1
    predicts: str = "next"
    order: str = "time"


CASES = {
    "wavenet": Case(WaveNet, (2, 1, 11), ("batch", None, "time"), "scan", 1, "this"),
    "rnn": Case(Recurrent, (2, 9, 2), ("batch", "time", None), "scan"),
    "attention": Case(Attending, (2, 37, 2), ("batch", "time", None), "cache"),
    "picture": Case(Picture, (2, 2, 3, 4), ("batch", *[None] * 3), "rows", 1, "this", "raster"),
}
HEADS = ("gaussian", "logistic_mixture")
OPTIONS = {"plain": {}, "options": {"prefix": True, "controls": True}}


def clip(numbers):
    return numbers.clamp(-2, 2)


@cache
def make(case, head, options="plain"):
    """Return a network, its sampler and the layout."""
    torch.manual_seed(0)
    item = CASES[case]
    x = Input("x", torch.zeros(item.shape), item.dims)
    sampler = Autoregressive(
        "sample", "forward", x, item.order, levels_axis=item.axis, embed=clip,
        predicts=item.predicts, start=0.5, head=head, components=COMPONENTS, **OPTIONS[options],
    )  # fmt: skip
    model = item.network(sampler.levels).eval()
    return model, sampler, schedules.load(item.schedule)(model, sampler)


def noise_of(sampler, positions, seed=1):
    draws = torch.Generator().manual_seed(seed)
    shape = (positions, BATCH, sampler.noises)
    if sampler.head == "gaussian":
        return torch.randn(shape, generator=draws)
    return -(-torch.rand(shape, generator=draws).clamp(1e-7, 1 - 1e-7).log()).log()


def positions_of(sampler):
    return int(torch.tensor([sampler.input.shape[axis] for axis in sampler.position_axes]).prod())


def draw(head, parameters, noise, temperature):
    """Return one position's numbers `(batch, numbers)`, one item after the other."""
    drawn = []
    for row, here in zip(parameters, noise, strict=True):
        if head == "gaussian":
            mean, log_scale = row.chunk(2)
            drawn.append(mean + temperature * log_scale.exp() * here)
            continue
        count = (len(row) - COMPONENTS) // 2 // COMPONENTS
        which = int((row[:COMPONENTS] / temperature + here[:COMPONENTS]).argmax())
        mean = row[COMPONENTS:].reshape(2, COMPONENTS, count)[0, which]
        log_scale = row[COMPONENTS:].reshape(2, COMPONENTS, count)[1, which]
        logistic = here[COMPONENTS:][:count] - here[COMPONENTS:][count:]
        drawn.append(mean + temperature * log_scale.exp() * logistic)
    return torch.stack(drawn)


@torch.no_grad()
def plain_loop(model, sampler, noise, prefix=None, temperature=1.0):
    """The sampler that everyone writes: a whole forward pass per position."""
    axes, late = sampler.position_axes, sampler.predicts == "next"
    shape = [BATCH, *sampler.input.shape[1:]]
    x, found = torch.zeros(shape), torch.zeros(shape)
    seen = x.movedim(axes, tuple(range(len(axes))))
    kept = found.movedim(axes, tuple(range(len(axes))))
    sizes = seen.shape[: len(axes)]
    for position in range(len(noise)):
        place = torch.unravel_index(torch.tensor(position), sizes)
        if late and position == 0:
            seen[place] = clip(torch.tensor(float(sampler.start)))
        parameters = model(x).movedim(sampler.levels_axis, -1).flatten(1, -2)[:, position]
        numbers = draw(sampler.head, parameters, noise[position], temperature)
        if prefix is not None:
            numbers = torch.where(prefix[position].isnan(), numbers, prefix[position])
        kept[place] = numbers.reshape(kept[place].shape)
        if not late:
            seen[place] = clip(kept[place])
        elif position + 1 < len(noise):
            seen[torch.unravel_index(torch.tensor(position + 1), sizes)] = clip(kept[place])
    return found


@torch.no_grad()
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("case", CASES)
def test_draws_what_the_plain_loop_draws(case, head):
    model, sampler, scheduled = make(case, head)
    noise = noise_of(sampler, positions_of(sampler))
    drawn, expected = scheduled.generate(noise), plain_loop(model, sampler, noise)
    assert drawn.shape == (BATCH, *sampler.input.shape[1:])
    assert torch.allclose(drawn, expected, atol=1e-4)
    assert expected.std() > 0.1


@torch.no_grad()
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("case", CASES)
def test_a_beginning_and_a_temperature_are_heeded(case, head):
    model, sampler, scheduled = make(case, head, "options")
    count = positions_of(sampler)
    noise = noise_of(sampler, count)
    prefix = torch.full((count, BATCH, sampler.numbers), torch.nan)
    prefix[:3] = torch.randn(3, BATCH, sampler.numbers)
    drawn = scheduled.generate(noise, prefix, torch.full((BATCH,), 0.5))
    expected = plain_loop(model, sampler, noise, prefix, 0.5)
    assert torch.allclose(drawn, expected, atol=1e-4)
    free = scheduled.generate(noise, torch.full_like(prefix, torch.nan), torch.ones(BATCH))
    assert not torch.allclose(drawn, free, atol=0.1)


@torch.no_grad()
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("case", CASES)
def test_a_dropped_tap_is_noticed(case, head):
    model, sampler, scheduled = make(case, head)
    noise = noise_of(sampler, positions_of(sampler))
    expected = plain_loop(model, sampler, noise)
    weights = [
        value
        for value in scheduled.generate.draw.state_dict().values()
        if value.is_floating_point() and value.ndim >= 2 and value.numel() >= 16 and value.any()
    ]
    assert weights
    for weight in weights:
        kept = weight.clone()
        weight.zero_()
        assert not torch.allclose(scheduled.generate(noise), expected, atol=1e-3)
        weight.copy_(kept)


@torch.no_grad()
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("case", ["wavenet", "rnn", "attention"])
def test_steps_give_the_parameters_of_the_whole_forward(case, head):
    model, sampler, scheduled = make(case, head)
    x = torch.randn(BATCH, *sampler.input.shape[1:])
    states, expected = scheduled.step.zeros(BATCH), model(x).movedim(sampler.levels_axis, -1)
    (axis,) = sampler.position_axes
    for time in range(positions_of(sampler)):
        found, *states = scheduled.step(x.select(axis, time), torch.tensor(time), *states)
        assert torch.allclose(found, expected[:, time], atol=1e-4)


# What torch's exporters say of torch's own recurrent layers.
@pytest.mark.filterwarnings("ignore:The tensor attributes self")
@pytest.mark.filterwarnings("ignore:Exporting a model to ONNX with a batch_size")
@pytest.mark.parametrize(("case", "head"), [("wavenet", "gaussian"), ("rnn", "logistic_mixture")])
def test_every_entry_is_exported_and_judged(tmp_path, case, head):
    model, sampler, _ = make(case, head, "options")
    results = toolkit.export(model, [sampler], tmp_path / "run")
    assert {
        name: item.outcome.reason for name, item in results.items() if not item.outcome.ok
    } == {}
    assert results["sample.generate"].signature.inputs[0].law == sampler.law
    count = positions_of(sampler)
    noise = noise_of(sampler, count)
    prefix = torch.full((count, BATCH, sampler.numbers), torch.nan)
    prefix[0] = 1.0
    session = toolkit.load(tmp_path / "run")
    warm = torch.full((BATCH,), 0.7)
    drawn = session["sample.generate"](noise.numpy(), prefix.numpy(), warm.numpy())
    expected = plain_loop(model, sampler, noise, prefix, 0.7)
    assert torch.allclose(torch.from_numpy(drawn), expected, atol=1e-4)
    # One whole forward on what was drawn says every number again.
    seen = torch.from_numpy(session["sample.logits"](expected.clamp(-2, 2).numpy()))
    if sampler.predicts == "this":
        for position in range(1, count):
            parameters = seen[:, :, position]
            again = draw(head, parameters, noise[position], 0.7)
            assert torch.allclose(again, expected[:, :, position], atol=1e-4)


def test_a_network_with_other_parameters_is_refused():
    model, sampler, _ = make("wavenet", "gaussian")
    with pytest.raises(toolkit.core.errors.UsageError, match="no 2 categories"):
        schedules.load("scan")(WaveNet(3).eval(), sampler)
    for name in ("wavefront", "steps"):
        with pytest.raises(ExportError):
            schedules.load(name)(model, make("picture", "gaussian")[1])
