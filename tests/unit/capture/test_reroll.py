"""Loops that Python unrolled are found again, and stay exact through ONNX."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx_ir as ir
import onnxruntime
import pytest
import torch
from torch import Tensor, fx, nn
from torch.export import Dim

from toolkit.capture import repeat as repeated
from toolkit.capture import segments
from toolkit.capture.loops import TRANSLATIONS, emit_loops
from toolkit.capture.record import Recording, guard, record
from toolkit.capture.repeat import Body, children, lend, repeat
from toolkit.capture.reroll import reroll
from toolkit.lowerings import table


class Call(nn.Module):
    """A function of some layers."""

    def __init__(self, function: Callable[..., object], width: int = 4) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(width, 16), nn.Linear(16, width)
        self.function = function
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad=False)

    def net(self, x: Tensor) -> Tensor:
        return 0.5 * torch.tanh(self.second(torch.relu(self.first(x))))

    def forward(self, x: Tensor) -> object:
        return self.function(self, x)


def fixed_point(model: Call, y: Tensor, steps: int = 24) -> tuple[Tensor, Tensor]:
    x = torch.zeros_like(y)
    for _ in range(steps):
        shift = model.net(x).roll(1, -1)
        scale = torch.exp(0.1 * torch.sin(y) * torch.cos(x))
        x = torch.sigmoid(y * scale - torch.tanh(shift)) * 2 + shift.abs().sqrt()
    return x, torch.log(scale).sum(-1)


def timed(model: Call, x: Tensor) -> Tensor:
    """Runge-Kutta steps: every iteration has its own time."""
    step = 1 / 20
    for i in range(20):
        t = torch.tensor(i * step)
        k = model.net(x) * torch.cos(t) + t
        x = x + step * model.net(x + step * k) + torch.sin(x * t) * torch.exp(-x * x) * step
    return x


def nested(model: Call, y: Tensor) -> Tensor:
    """A bisection inside every pass of a fixed-point iteration."""
    x = torch.zeros_like(y)
    for _ in range(6):
        target = y + 0.1 * model.net(x)
        low, high = torch.full_like(y, -8.0), torch.full_like(y, 8.0)
        for _ in range(40):
            middle = (low + high) / 2
            below = middle + torch.tanh(middle) + torch.tanh(2 * middle - 1) < target
            low = torch.where(below, middle, low)
            high = torch.where(below, high, middle)
        x = (low + high) / 2
    return x


def until_converged(model: Call, y: Tensor) -> Tensor:
    rate = torch.tanh(y.abs()) / 2
    x, previous = y - rate * torch.sin(y + model.net(y)), y
    while not torch.all((x - previous).abs() < 1e-5):
        x, previous = y - rate * torch.sin(x + model.net(x)), x
    return x


def until_break(model: Call, y: Tensor) -> Tensor:
    x = torch.zeros_like(y)
    for _ in range(200):
        step = y - model.net(x) - x
        x = x + 0.9 * step
        if step.abs().max() < 1e-5:
            break
    return x * 2


def run(recording: Recording, *inputs: Tensor) -> tuple[Tensor, ...]:
    root = nn.Module()
    for name, constant in recording.constants.items():
        root.register_buffer(name, constant)
    return fx.Interpreter(root, graph=recording.graph).run(*inputs)


def loops_of(graph: fx.Graph) -> list[fx.Node]:
    found = [node for node in graph.nodes if node.target is repeat]
    return found + [inner for node in found for inner in loops_of(children(node)[0])]


def data(batch: int = 6, width: int = 4, seed: int = 1) -> Tensor:
    return torch.randn(batch, width, generator=torch.Generator().manual_seed(seed))


FUNCTIONS = [fixed_point, timed, nested, until_converged, until_break]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_rolled_recording_is_bitwise_the_call(function: Callable[..., object]) -> None:
    recording = record(Call(function), [data()])
    before = len(recording.graph.nodes)
    assert reroll(recording) >= 1
    recording.graph.lint()
    assert len(recording.graph.nodes) < before / 2
    for mine, truth in zip(run(recording, data()), recording.outputs, strict=True):
        assert torch.equal(mine, truth)


def test_a_loop_says_what_it_carries_and_reads() -> None:
    recording = record(Call(fixed_point), [data()])
    reroll(recording)
    (node,) = loops_of(recording.graph)
    body, count, carried, _, stacked, extras, before = node.args
    assert isinstance(body, Body)
    assert (count, len(carried), stacked, before) == (24, 1, (), None)
    assert body.settles
    assert extras == (((6, 4), torch.float32),)
    targets = [item.target for item in body.graph.nodes]
    assert torch.ops.aten.sin.default not in targets  # of y alone: hoisted


def test_constants_of_their_own_forbid_the_early_stop() -> None:
    recording = record(Call(timed), [data()])
    reroll(recording)
    (node,) = loops_of(recording.graph)
    assert len(node.args[4]) >= 1
    assert not node.args[0].settles


def test_nested_loops_are_one_node_each() -> None:
    recording = record(Call(nested), [data()])
    reroll(recording)
    assert [node.args[1] for node in loops_of(recording.graph)] == [6, 40]


@pytest.mark.parametrize("function", [until_converged, until_break])
def test_a_condition_replaces_the_count(function: Callable[..., object]) -> None:
    recordings = [record(Call(function), [data() * scale]) for scale in (1, 0.02)]
    for recording in recordings:
        assert reroll(recording) == 1
    (first,), (second,) = (loops_of(recording.graph) for recording in recordings)
    assert first.args[1] is None
    assert first.args[0].seen != second.args[0].seen
    assert not [entry for recording in recordings for entry in recording.guards]
    for mine, truth in zip(run(recordings[0], data() * 0.02), recordings[1].outputs, strict=True):
        assert torch.equal(mine, truth)


def test_a_branch_inside_a_loop_stays_a_guard_once() -> None:
    def branching(model: Call, x: Tensor) -> Tensor:
        for _ in range(60):
            x = model.net(x)
            x = torch.sin(x) if (x < 2).all() else torch.cos(x)
        return x

    recording = record(Call(branching), [data()])
    assert reroll(recording) == 1
    assert len(recording.guards) <= 2
    (node,) = loops_of(recording.graph)
    inside = set(children(node)[0].nodes)
    assert len([entry for entry in recording.guards if entry.node in inside]) == 1
    assert [item for item in children(node)[0].nodes if item.target is guard]


def test_values_of_earlier_iterations_forbid_a_loop() -> None:
    def collecting(model: Call, x: Tensor) -> Tensor:
        seen = []
        for _ in range(30):
            x = model.net(x)
            seen.append(x)
        return torch.stack(seen)

    recording = record(Call(collecting), [data()])
    assert reroll(recording) == 0
    assert torch.equal(run(recording, data())[0], recording.outputs[0])


def test_not_a_number_does_not_settle() -> None:
    recording = record(Call(fixed_point), [data()])
    reroll(recording)
    broken = torch.full((6, 4), torch.nan)
    assert run(recording, broken)[0].isnan().all()


def test_small_loops_stay_unrolled(monkeypatch: pytest.MonkeyPatch) -> None:
    def short(model: Call, x: Tensor) -> Tensor:
        for _ in range(8):
            x = model.net(x)
        return x

    assert reroll(record(Call(short), [data()])) == 0
    monkeypatch.setattr(segments, "UNROLLED_OF_FEW", 0)
    assert reroll(record(Call(short), [data()])) == 1


def test_a_loop_over_large_weights_is_none_that_stays_unrolled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def short(model: Call, x: Tensor) -> Tensor:
        for _ in range(8):
            x = model.net(x)
        return x

    monkeypatch.setattr(segments, "UNROLLED_OF_FEW", 100)
    assert reroll(record(Call(short), [data()])) == 0
    monkeypatch.setattr(repeated, "READ", 4)
    assert reroll(record(Call(short), [data()])) == 1


def test_a_body_reads_what_it_is_lent() -> None:
    recording = record(Call(nested), [data()])
    reroll(recording)
    (node,) = (node for node in recording.graph.nodes if node.target is repeat)
    outer = len(node.args[3])
    place = next(item for item in recording.graph.nodes if item.op == "placeholder")
    (lent,) = lend(node, [place])
    assert lent.op == "placeholder"
    assert node.args[3][outer] is place
    assert torch.equal(run(recording, data())[0], recording.outputs[0])


def exported(function: Callable[..., object]) -> onnxruntime.InferenceSession:
    """Export the first recording for every batch: its integers do not hold the batch."""
    recording = record(Call(function), [data()])
    reroll(recording)
    for graph in [recording.graph, *(item.args[0].graph for item in loops_of(recording.graph))]:
        for node in graph.nodes:
            assert 6 not in [size for item in node.args if isinstance(item, list) for size in item]
    root = nn.Module()
    for node in [item for item in recording.graph.nodes if item.target is guard]:
        recording.graph.erase_node(node)
    emit_loops(recording.graph, root)
    for name, constant in recording.constants.items():
        root.register_buffer(name, constant)
    program = torch.export.export(
        fx.GraphModule(root, recording.graph),
        (data(),),
        dynamic_shapes=({0: Dim("batch", min=1, max=512)},),
        strict=False,
    )
    translated = torch.onnx.export(
        program,
        dynamo=True,
        opset_version=20,
        custom_translation_table={**table(), **TRANSLATIONS},
        verbose=False,
    )
    return session(translated.model)


def session(model: ir.Model) -> onnxruntime.InferenceSession:
    content = ir.serde.serialize_model(model).SerializeToString()
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("function", [timed, nested, until_converged, until_break])
def test_loops_run_in_onnx_at_every_batch(function: Callable[..., object]) -> None:
    loaded = exported(function)
    (name,) = (item.name for item in loaded.get_inputs())
    for batch in (7, 1, 64):
        x = data(batch, seed=batch)
        truth = Call(function)(x)
        (mine,) = loaded.run(None, {name: x.numpy()})
        torch.testing.assert_close(torch.from_numpy(mine), truth, rtol=1e-4, atol=1e-5)


def all_sequences() -> Sequence[tuple[list[int], int]]:
    return [([0, *[1, 2, 3] * 9, 4], 3), ([5, 6, *[1, 2, 2, 3, 7] * 8, 1], 5)]


@pytest.mark.parametrize(("codes", "period"), all_sequences())
def test_runs_are_found_with_their_period(codes: list[int], period: int) -> None:
    found = segments.find_runs(codes)
    assert any(run.period == period and run.count >= 8 for run in found)


def test_a_loop_that_starts_from_constants_keeps_its_first_iteration() -> None:
    def accumulating(model: Call, x: Tensor) -> Tensor:
        total = torch.zeros(len(x))
        for _ in range(40):
            x = x + 0.1 * model.net(x)
            total = total + torch.exp(-x).sum(-1) * 0.1
        return total

    recording = record(Call(accumulating), [data()])
    assert reroll(recording) == 1
    (node,) = loops_of(recording.graph)
    assert node.args[1] == 40
    assert torch.equal(run(recording, data())[0], recording.outputs[0])
