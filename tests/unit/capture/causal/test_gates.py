"""Gates apart: equal results by a product per gate, and where nothing is gained none."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from toolkit.capture.causal.gates import gates_apart
from toolkit.capture.causal.program import capture, double_by_default, evaluate

aten = torch.ops.aten


class Gated(nn.Module):
    """A product and what is made of its pieces."""

    def __init__(self, layer, join):
        super().__init__()
        self.layer, self.join = layer, join

    def forward(self, x):
        return self.join(self.layer(x))


def by_chunk(z):
    value, gate = z.chunk(2, 1)
    return torch.tanh(value) * torch.sigmoid(gate)


def by_slice(z):
    return torch.tanh(z[:, :2]) * torch.sigmoid(z[:, 2:])


def by_sizes(z):
    value, gate = z.split([1, 3], -1)
    return value * torch.sigmoid(gate)


def summed_too(z):
    return by_chunk(z) + z.sum()


def bare(z):
    value, gate = z.chunk(2, 1)
    return value * gate


def overlapping(z):
    return torch.tanh(z[:, :3]) * torch.sigmoid(z[:, 1:])


@torch.no_grad()
@pytest.mark.parametrize(
    ("layer", "join", "count"),
    [
        (nn.Conv1d(3, 4, 2), by_chunk, 2),
        (nn.Conv2d(3, 4, (1, 2), bias=False), by_chunk, 2),
        (nn.Conv1d(3, 4, 1), by_slice, 2),
        (nn.Linear(5, 4), by_sizes, 2),
        (nn.Conv1d(3, 4, 1), summed_too, 1),
        (nn.Conv1d(3, 4, 1), bare, 1),
        (nn.Conv1d(3, 4, 1), overlapping, 1),
        (nn.Conv1d(4, 4, 1, groups=2), by_chunk, 1),
    ],
    ids=["chunk", "planes", "slice", "linear", "read twice", "bare", "overlapping", "grouped"],
)
def test_products_are_as_many_as_gates_where_that_saves_operators(layer, join, count):
    torch.manual_seed(0)
    channels = layer.weight.shape[1] * getattr(layer, "groups", 1)
    x = torch.randn(2, channels, 5) if not isinstance(layer, nn.Conv2d) else torch.randn(2, 3, 4, 5)
    program = capture(Gated(layer, join), [x])
    (whole,) = results(program, x)
    apart = gates_apart(program)
    products = [node for node in apart.nodes if "conv" in node.name or "linear" in node.name]
    assert len(products) == count
    assert torch.allclose(*results(apart, x), whole, atol=1e-12)


def results(program, x):
    with double_by_default():
        value = evaluate(program, {program.inputs[0]: x.double()})
        return [value(node) for node in program.outputs]
