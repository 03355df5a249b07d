"""Sums over a vector: each input is added once; what does not fit is refused with its node."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from toolkit.capture.causal.choice import controlled
from toolkit.capture.causal.lane import Refusal
from toolkit.capture.causal.triangular.network import triangular
from toolkit.capture.causal.triangular.prove import prove_steps
from toolkit.core.entry import Autoregressive, Input
from toolkit.core.errors import ExportError
from toolkit.models.fvsbn import FVSBN
from toolkit.models.nade import NADE
from toolkit.nn.made import MADE
from toolkit.schedules.accumulator import schedule

FEATURES, BATCH = 6, 5


class Masked(nn.Module):
    """A masked network that gives `levels` logits per feature."""

    def __init__(self, levels: int = 3):
        super().__init__()
        self.levels = levels
        self.net = MADE(FEATURES, levels, hidden=15, layers=2)
        nn.init.normal_(self.net[-1].weight)

    def forward(self, x):
        return self.net(x).view(len(x), self.levels, FEATURES).transpose(1, 2)


class Bits(nn.Module):
    """Something between bits and their logits."""

    def __init__(self, between):
        super().__init__()
        self.between = between
        self.weight = nn.Parameter(torch.randn(FEATURES, FEATURES))

    def forward(self, x):
        logit = self.between(x, self.weight)
        return torch.stack([-logit, logit], 2)


def declared(levels: int, features: int = FEATURES, **options) -> Autoregressive:
    x = Input("x", torch.zeros(2, features), ("batch", None))
    return Autoregressive("sample", "forward", x, "time", levels, 2, scaled(levels), **options)


def scaled(levels: int):
    return lambda level: level / (levels - 1) * 3 - 1


def laid(levels: int = 3, **options):
    torch.manual_seed(0)
    model = Masked(levels).eval()
    return model, schedule(model, declared(levels, **options))


def gumbel(levels: int, positions: int = FEATURES, batch: int = BATCH):
    draws = torch.Generator().manual_seed(1)
    uniform = torch.rand(positions, batch, levels, generator=draws)
    return -(-uniform.clamp(1e-6, 1 - 1e-6).log()).log()


def plain_loop(model, noise, change=lambda _, logits: logits.argmax(1)):
    levels = noise.shape[2]
    x = torch.zeros(noise.shape[1], len(noise))
    drawn = torch.zeros_like(x, dtype=torch.int64)
    for position in range(len(noise)):
        drawn[:, position] = change(position, model(x)[:, position], noise[position])
        x[:, position] = scaled(levels)(drawn[:, position])
    return drawn


@torch.no_grad()
@pytest.mark.parametrize("levels", [2, 3])
def test_what_is_given_is_kept_and_the_rest_follows_from_it(levels):
    model, scheduled = laid(levels, prefix=True)
    noise = gumbel(levels)
    given = torch.full((FEATURES, BATCH), -1)
    given[:2], given[4, 0] = levels - 1, 0

    def change(position, logits, noise):
        free = (logits + noise).argmax(1)
        return torch.where(given[position] >= 0, given[position], free)

    drawn = scheduled.generate(noise, given)
    assert torch.equal(drawn, plain_loop(model, noise, change))
    assert (drawn[:, :2] == levels - 1).all()


@torch.no_grad()
@pytest.mark.parametrize("levels", [2, 4])
def test_controls_change_the_logits_before_the_noise(levels):
    model, scheduled = laid(levels, controls=True)
    noise = gumbel(levels)
    controls = (torch.rand(BATCH) + 0.5, torch.tensor([1, 2, 2, 1, 2]), torch.rand(BATCH))

    def change(_, logits, noise):
        return (controlled(logits, *controls) + noise).argmax(1)

    assert torch.equal(scheduled.generate(noise, *controls), plain_loop(model, noise, change))


@torch.no_grad()
@pytest.mark.parametrize("levels", [2, 3])
@pytest.mark.parametrize("batch", [1, 3])
def test_steps_from_zero_states_give_the_whole_forward(levels, batch):
    model, scheduled = laid(levels)
    x = torch.randn(batch, FEATURES)
    states = [torch.zeros(batch, item.shape[1]) for item in scheduled.inputs[2:]]
    for time, expected in enumerate(model(x).unbind(1)):
        logits, *states = scheduled.step(x[:, time], torch.tensor(time), *states)
        torch.testing.assert_close(logits, expected)


def test_names_and_examples_fit_the_step():
    _, scheduled = laid()
    column, time, *states = scheduled.inputs
    assert (column.name, time.name) == ("x", "time")
    assert any(item.value.any() for item in states)
    results = scheduled.step(*(item.value for item in scheduled.inputs))
    assert len(results) == len(scheduled.outputs) == 1 + len(states)
    for item, result in zip(states, results[1:], strict=True):
        assert (item.kind, item.value.shape) == ("state", result.shape)


@pytest.mark.parametrize("activation", ["log", "reciprocal", "exp"])
def test_a_function_that_is_infinite_at_zero_does_no_harm(activation):
    """Units that a step does not have are filled up with numbers at which it is finite."""
    torch.manual_seed(0)
    last = torch.arange(3).repeat(2)
    reads = torch.arange(FEATURES) <= last[:, None]
    writes = torch.arange(FEATURES)[:, None] > last

    def between(x, w):
        hidden = getattr(torch, activation)((x + 1.5) @ (w.abs() * reads).T)
        return hidden @ (w * writes).T

    model = Bits(between)
    noise = gumbel(2)
    drawn = schedule(model, declared(2)).generate(noise)
    assert torch.equal(drawn, plain_loop(model, noise, lambda _, a, b: (a + b).argmax(1)))


REFUSED = {
    "dense": (lambda x, w: x @ w, "matmul", "not causal"),
    "own": (lambda x, w: x @ w.tril().T, "matmul", "position 0 reads the input at position 0"),
    "softmax": (lambda x, w: torch.softmax(x @ w.tril(-1).T, 1), "softmax", "no sum"),
    "product": (lambda x, w: (x[:, None] @ (x @ w.T)[:, :, None])[:, 0], "matmul", "two values"),
    "whole sum": (lambda x, w: x.cumsum(1) @ w.diag().diag(), "cumsum", "position 0"),
    "subtracted": (lambda x, w: x.cumsum(1) - x * w[0] / w[0], "", "position 0"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_with_the_node_and_the_reason(name):
    between, node, reason = REFUSED[name]
    with pytest.raises(Refusal) as raised:
        triangular(Bits(between), declared(2))
    assert node in str(raised.value.node.name)
    assert reason in raised.value.reason
    assert raised.value.where


@pytest.mark.parametrize(
    "option", [{"predicts": "next"}, {"context": [Input("c", torch.zeros(2))]}]
)
def test_refuses_a_declaration_that_it_does_not_take(option):
    with pytest.raises(ExportError):
        schedule(Masked(), declared(3, **option))


def test_a_changed_weight_fails_the_proof():
    torch.manual_seed(0)
    model = Masked().eval()
    layouts = triangular(model, declared(3))
    prove_steps(model, declared(3), layouts)
    table = next(t for t in layouts[0].tables if t.is_floating_point())
    table[2] *= 1.01
    with pytest.raises(ExportError, match="differ from the whole pass"):
        prove_steps(model, declared(3), layouts)


def test_items_that_read_one_another_fail_the_proof():
    with pytest.raises(ExportError):
        schedule(Bits(lambda x, w: x @ w.tril(-1).T - (x @ w.tril(-1).T).mean(0)), declared(2))


class Elements(TorchDispatchMode):
    """Count the elements of what every operator that is no view reads or gives at most."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        tensors = [item for item in (*args, result) if isinstance(item, torch.Tensor)]
        if not function.is_view:
            self.count += max((item.numel() for item in tensors), default=0)
        return result


def nade(features: int) -> nn.Module:
    return NADE(features=features, hidden=64)


def fvsbn(features: int) -> nn.Module:
    model = FVSBN(features=features)
    nn.init.normal_(model.linear.weight)
    return model


@torch.no_grad()
@pytest.mark.parametrize(("make", "factor"), [(nade, 2), (fvsbn, 4)])
def test_what_doubling_the_vector_costs(make, factor):
    """`O(N · H)` of NADE, `O(N²)` of a triangular layer: what one whole pass costs."""
    costs = []
    for features in (64, 128, 256):
        model = make(features).eval()
        generate = schedule(model, model.entries()[1]).generate
        with Elements() as elements:
            generate(gumbel(2, features, 1))
        costs.append(elements.count)
    for short, long in pairwise(costs):
        assert long / short == pytest.approx(factor, rel=0.15)
