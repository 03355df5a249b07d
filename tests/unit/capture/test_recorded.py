"""Recording: what tracing cannot follow is captured, what a graph cannot say is refused."""

from __future__ import annotations

import re
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch._higher_order_ops.scan import scan

from toolkit.capture import segments
from toolkit.capture.capture import capture
from toolkit.capture.module import entry_module
from toolkit.capture.noise import with_noise
from toolkit.capture.survey import stumbles
from toolkit.capture.vary import further
from toolkit.core.entry import Entry, Input
from toolkit.core.errors import ExportError, TimedOut

X = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def entry(call: object, x: Tensor = X, **given: object) -> Entry:
    return Entry("forward", call, [Input("x", x, ("batch", None), **given)], ["y"])


def recorded(call: object, path: Path, model: nn.Module | None = None, **given: object):
    """Capture by recording alone; return a function that runs the graph."""
    model = model or nn.Identity()
    made = capture(model, entry(call, **given), path / "m.onnx", strategies=["record"])
    session = onnxruntime.InferenceSession(path / "m.onnx", providers=["CPUExecutionProvider"])
    return made, lambda x: session.run(None, {"x": x.numpy()})[0]


def agrees(run, call, model: nn.Module | None = None, scales: tuple[float, ...] = (1.0, 4.0)):
    for scale in scales:
        for batch in (1, 2, 7, 33):
            x = scale * torch.randn(batch, 4)
            np.testing.assert_allclose(run(x), call(model, x).detach(), rtol=2e-5, atol=2e-6)


def spline_like(_: nn.Module, x: Tensor) -> Tensor:
    """A masked write under a branch, the idiom of every spline library."""
    inside = (x > -1) & (x < 1)
    y = torch.zeros_like(x)
    y[~inside] = x[~inside]
    if torch.any(inside):
        y[inside] = torch.sin(3 * x[inside])
    return y


def baked(_: nn.Module, x: Tensor) -> Tensor:
    return x + torch.arange(len(x) * 4, dtype=x.dtype).reshape(len(x), 4) / len(list(x[0]))


def gradient(_: nn.Module, x: Tensor) -> Tensor:
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        return torch.autograd.grad(torch.tanh(x).prod(1).sum(), x)[0]


def asserting(_: nn.Module, x: Tensor) -> Tensor:
    assert torch.isfinite(x).all()
    if torch.isnan(x).any():
        raise ValueError("not a number")
    return x.sum(1, keepdim=True).expand(len(x), 4) * 2


def transposed(_: nn.Module, x: Tensor) -> Tensor:
    return x.t().contiguous().view(2, -1).reshape(4, -1).t()


@pytest.mark.parametrize("call", [spline_like, baked, gradient, asserting, transposed])
def test_what_a_tracer_cannot_follow_is_captured(call: object, tmp_path: Path) -> None:
    _, run = recorded(call, tmp_path)
    agrees(run, call)


def test_a_guard_is_reported_with_its_line_and_how_it_was_proven(tmp_path: Path) -> None:
    made, _ = recorded(spline_like, tmp_path)
    (guard,) = made.made.guards
    assert "test_recorded.py" in guard.place
    assert guard.status == "both sides"
    made, _ = recorded(asserting, tmp_path)
    assert {item.status for item in made.made.guards} == {"raises"}


def squared_size(_: nn.Module, x: Tensor) -> Tensor:
    return x + torch.full_like(x, 1).sum() * 0 + torch.ones(len(x) * len(x)).sum() / 7


def masked_sum(_: nn.Module, x: Tensor) -> Tensor:
    return x + x[x > 0].sum()


def batch_branch(_: nn.Module, x: Tensor) -> Tensor:
    return x * 2 if x.abs().max() > 5 else x


def far_branch(_: nn.Module, x: Tensor) -> Tensor:
    return x * 2 if x.abs().max() > 1e9 else x


def read_number(_: nn.Module, x: Tensor) -> Tensor:
    return x * float(x.mean())


def counted(_: nn.Module, x: Tensor) -> Tensor:
    return x[torch.nonzero(x[:, 0] > 0)[:, 0]]


def random(_: nn.Module, x: Tensor) -> Tensor:
    return x + torch.bernoulli(torch.full_like(x, 0.5))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (squared_size, "at other sizes"),
        (masked_sum, "reduced or mixed"),
        (batch_branch, "takes its other side|another path"),
        (far_branch, "one side"),
        (read_number, "baked in"),
        (counted, "shape that depends"),
        (random, "random numbers"),
    ],
)
def test_what_a_graph_cannot_say_is_refused(call: object, says: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError) as caught:
        recorded(call, tmp_path)
    assert re.search(says, caught.value.where), caught.value.where
    assert not (tmp_path / "m.onnx").exists()


class Lazy(nn.Module):
    """Normalises by its first batch."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))
        self.register_buffer("ready", torch.tensor(False))

    def forward(self, x: Tensor) -> Tensor:
        if not self.ready:
            self.scale.data.copy_(1 / x.std(0))
            self.ready.fill_(True)
        return x * self.scale


def test_a_layer_that_is_not_initialised_is_named(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 4), Lazy())
    with pytest.raises(ExportError, match="not initialised") as caught:
        capture(model, entry("forward"), tmp_path / "m.onnx")
    assert caught.value.where == "module 1"
    assert not model[1].ready
    model(X)
    capture(model, entry("forward"), tmp_path / "m.onnx")


def two_sizes(_: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
    flat = x.reshape(x.shape[0] * x.shape[1], 3)
    chosen = torch.zeros(len(flat), 3)
    keep = mask.reshape(-1) > 0
    if keep.any():
        chosen[keep] = flat[keep] * 2
    return chosen.reshape(x.shape[0], x.shape[1], 3)


def test_two_dynamic_dimensions_stay_dynamic(tmp_path: Path) -> None:
    inputs = [
        Input("x", torch.randn(3, 5, 3), ("batch", "time", None)),
        Input("mask", torch.randn(3, 5), ("batch", "time")),
    ]
    made = capture(
        nn.Identity(), Entry("f", two_sizes, inputs, ["y"]), tmp_path / "m.onnx",
        strategies=["record"],
    )  # fmt: skip
    assert made.signature.outputs[0].dims == ("batch", "time", 3)
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    for batch, steps in ((1, 1), (4, 4), (2, 9)):
        x, mask = torch.randn(batch, steps, 3), torch.randn(batch, steps)
        (got,) = session.run(None, {"x": x.numpy(), "mask": mask.numpy()})
        np.testing.assert_allclose(got, two_sizes(nn.Identity(), x, mask), rtol=1e-6)


class Autoregressive(nn.Module):
    """Inverts a masked autoregressive map by as many passes as there are features."""

    def __init__(self, features: int) -> None:
        super().__init__()
        draws = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(features, features, generator=draws) / 4)

    def passes(self, z: Tensor) -> Tensor:
        x = torch.zeros_like(z)
        for _ in range(z.shape[1]):
            shift = torch.tanh(x @ self.weight.tril(-1).t())
            x = (z - shift) * torch.exp(-0.1 * shift)
        return x

    def settles(self, z: Tensor) -> Tensor:
        x, previous = z, z + 1
        while not torch.all((x - previous).abs() < 1e-6):
            x, previous = z - 0.5 * torch.tanh(x @ self.weight.tril(-1).t()), x
        return x


@pytest.mark.parametrize("call", ["passes", "settles"])
def test_a_python_loop_becomes_one_loop(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "UNROLLED", 0)
    model = Autoregressive(32)
    given = Entry("f", call, [Input("z", torch.randn(5, 32), ("batch", None))], ["x"])
    made = capture(model, given, tmp_path / "m.onnx", strategies=["record"])
    graph = onnx.load(tmp_path / "m.onnx").graph
    assert [node.op_type for node in graph.node].count("Loop") == 1
    assert len(graph.node) < 40
    assert made.made.loops == ((32,) if call == "passes" else (1000,))
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    for batch in (1, 7, 64):
        z = torch.randn(batch, 32)
        (got,) = session.run(None, {"z": z.numpy()})
        truth = getattr(model, call)(z).detach()
        np.testing.assert_allclose(got, truth, rtol=1e-4, atol=1e-5)


class Hutchinson(nn.Module):
    """Draws its own noise, as trace estimators do."""

    def forward(self, x: Tensor) -> Tensor:
        return (x * torch.randn_like(x)).sum(1)


def test_random_numbers_become_inputs(tmp_path: Path) -> None:
    model = Hutchinson()
    fed = with_noise(model, entry("forward"))
    assert [(item.name, item.kind, item.dims) for item in fed.inputs[1:]] == [
        ("noise_0", "noise", ("batch", None))
    ]
    capture(model, fed, tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    draws = torch.Generator().manual_seed(0)
    # Positive numbers: a sum that cancels has no relative digits.
    x, noise = torch.rand(2, 7, 4, generator=draws) + 0.1
    (got,) = session.run(None, {"x": x.numpy(), "noise_0": noise.numpy()})
    np.testing.assert_allclose(got, (x * noise).sum(1), rtol=1e-5)
    plain = entry(spline_like)
    assert with_noise(nn.Identity(), plain) is plain


def slow(_: nn.Module, x: Tensor) -> Tensor:
    for _step in range(1000):
        time.sleep(0.01)
    return x


def test_a_time_limit_names_the_line(tmp_path: Path) -> None:
    with pytest.raises(TimedOut) as caught:
        capture(nn.Identity(), entry(slow), tmp_path / "m.onnx", timeout=0.3)
    assert "test_recorded.py" in caught.value.where
    assert caught.value.exit_code == 7
    assert list(tmp_path.iterdir()) == []


def test_only_loops_over_the_same_parameters_are_repetitions() -> None:
    model, x = Autoregressive(64), torch.randn(3, 64)
    found = stumbles(entry_module(model, Entry("f", "passes")), [x])
    assert found.repeated > 200
    assert "a loop repeats" in str(found)
    deep = nn.Sequential(*(nn.Sequential(nn.Linear(64, 64), nn.Tanh()) for _ in range(100)))
    assert not stumbles(deep, [x])


def test_torchs_own_loops_are_left_to_its_exporter() -> None:
    def scanned(_: nn.Module, x: Tensor) -> Tensor:
        def step(carry: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
            for _turn in range(4):
                carry = torch.tanh(carry + row)
            return carry, carry.clone()

        return scan(step, torch.zeros_like(x[0]), x, dim=0)[1]

    found = stumbles(entry_module(nn.Identity(), Entry("f", scanned)), [torch.randn(100, 4)])
    assert not found


def halves(_: nn.Module, x: Tensor) -> Tensor:
    """Fails at an odd length, and is off where lengths were guessed from two."""
    pairs = x.reshape(len(x), -1, 2)
    return pairs.flip(2).reshape(len(x), x.shape[1]) + torch.ones(x.shape[1] ** 2).sum() / 7


def test_other_sizes_stay_in_a_dimensions_range(tmp_path: Path) -> None:
    x = torch.randn(4, 8)
    given = Entry("f", halves, [Input("x", x, ("batch", "time"))], ranges={"time": (2, 8, 16, 2)})
    for size in (2, 8, 12, 16):
        sizes = {size, *further(given, "time", size)}
        assert len(sizes) == 3
        assert all(2 <= other <= 16 and other % 2 == 0 for other in sizes)
    with pytest.raises(ExportError) as caught:
        capture(nn.Identity(), given, tmp_path / "m.onnx", strategies=["record"])
    assert "at other sizes" in caught.value.where
