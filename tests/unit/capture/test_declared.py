"""Loops that say so are recorded by one iteration, and are the call all the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn

from toolkit.capture.record import Recording, guard, record
from toolkit.capture.repeat import Body, repeat
from toolkit.capture.reroll import reroll
from toolkit.capture.survey import stumbles
from toolkit.core.errors import ExportError
from toolkit.nn.iterate import iterate


class Call(nn.Module):
    """A function of a layer."""

    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(4, 4).requires_grad_(requires_grad=False)
        self.function = function

    def forward(self, x: Tensor) -> object:
        return self.function(self, x)


def passes(model: Call, y: Tensor, count: int = 100) -> Tensor:
    def step(x: Tensor) -> tuple[Tensor]:
        return ((y.sin() + model.layer(x).tanh()).mul_(0.9),)

    (x,) = iterate(step, count, torch.zeros_like(y))
    return x * 2


def nested(model: Call, y: Tensor) -> Tensor:
    def outer(x: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
        shift = model.layer(x)

        def bisect(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
            middle = (low + high) / 2
            below = torch.sinh(middle) + shift < y
            return torch.where(below, middle, low), torch.where(below, high, middle)

        low, high = iterate(bisect, 60, torch.full_like(y, -9.0), torch.full_like(y, 9.0))
        return (low + high) / 2, total + shift.sum(-1)

    x, total = iterate(outer, 4, torch.zeros_like(y), y.new_zeros(len(y)))
    return x + total.unsqueeze(-1)


def data(seed: int = 1) -> Tensor:
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(seed))


def run(recording: Recording, x: Tensor) -> Tensor:
    root = nn.Module()
    for name, constant in recording.constants.items():
        root.register_buffer(name, constant)
    result: tuple[Tensor, ...] = fx.Interpreter(root, graph=recording.graph).run(x)
    return result[0]


def loops_of(graph: fx.Graph) -> list[fx.Node]:
    found = [node for node in graph.nodes if node.target is repeat]
    return found + [inner for node in found for inner in loops_of(node.args[0].graph)]


@pytest.mark.parametrize(("function", "loops"), [(passes, 1), (nested, 2)])
def test_the_rolled_recording_is_bitwise_the_call(
    function: Callable[..., Tensor], loops: int
) -> None:
    recording = record(Call(function), [data()])
    assert len(recording.graph.nodes) < 50
    assert reroll(recording) == loops
    recording.graph.lint()
    assert len(loops_of(recording.graph)) == loops
    for seed in (1, 2):
        assert torch.equal(run(recording, data(seed)), Call(function)(data(seed)))


def test_what_does_not_read_the_state_stands_outside() -> None:
    recording = record(Call(passes), [data()])
    reroll(recording)
    (node,) = loops_of(recording.graph)
    body, count, *_ = node.args
    assert isinstance(body, Body)
    assert count == 100
    assert torch.ops.aten.sin.default not in [item.target for item in body.graph.nodes]
    assert torch.ops.aten.sin.default in [item.target for item in recording.graph.nodes]


def test_a_short_loop_is_written_out() -> None:
    def short(model: Call, y: Tensor) -> Tensor:
        return passes(model, y, count=5)

    recording = record(Call(short), [data()])
    assert reroll(recording) == 0
    recording.graph.lint()
    assert torch.equal(run(recording, data(2)), Call(short)(data(2)))


def test_a_value_that_leaves_an_iteration_unsaid_is_refused() -> None:
    def leaky(model: Call, y: Tensor) -> Tensor:
        kept = []

        def step(x: Tensor) -> tuple[Tensor]:
            kept.append(model.layer(x))
            return (kept[-1].tanh(),)

        iterate(step, 100, y)
        return kept[-1]

    recording = record(Call(leaky), [data()])
    with pytest.raises(ExportError, match="used after the loop"):
        reroll(recording)


def test_a_step_that_changes_its_states_shape_is_refused() -> None:
    def growing(model: Call, y: Tensor) -> Tensor:
        (x,) = iterate(lambda x: (x + model.layer(y),), 100, y[0])
        return x

    with pytest.raises(ExportError, match="one iteration of a loop makes"):
        record(Call(growing), [data()])


def test_a_read_inside_stays_a_guard_of_the_body() -> None:
    def guarded(model: Call, y: Tensor) -> Tensor:
        def step(x: Tensor) -> tuple[Tensor]:
            return (model.layer(x).tanh() if (x < 100).all() else x,)

        (x,) = iterate(step, 100, y)
        return x

    recording = record(Call(guarded), [data()])
    reroll(recording)
    (node,) = loops_of(recording.graph)
    (entry,) = recording.guards
    body = node.args[0].graph
    assert entry.node.graph is body
    assert [item.args[0] for item in body.nodes if item.target is guard] == [entry.node]


def test_a_long_loop_is_recorded_first() -> None:
    found = stumbles(Call(passes), [data()])
    assert found.repeated > 200
    assert "repeats" in str(found)
