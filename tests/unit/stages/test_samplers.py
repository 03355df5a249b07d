"""What certifies an exported sampler, each with a planted fault."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import toolkit
from toolkit.capture.causal.choice import controlled
from toolkit.core.case import load_cases
from toolkit.core.entry import Autoregressive, Input
from toolkit.core.errors import UsageError
from toolkit.core.protocols import Subject
from toolkit.core.registry import checks
from toolkit.stages._entries import plain_entries

LEVELS, LENGTH, BATCH = 6, 10, 4


class Signal(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Conv1d(1, 8, 2), nn.Conv1d(8, 8, 2, dilation=2)])
        self.head = nn.Conv1d(8, LEVELS, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.layers[0](F.pad(x, (2, 0))[:, :, :-1]))
        return 6 * self.head(torch.tanh(self.layers[1](F.pad(h, (2, 0)))))


def scale(level: Any) -> Any:
    return level / (LEVELS - 1) * 2 - 1


def asked(**options: Any) -> tuple[nn.Module, Autoregressive]:
    torch.manual_seed(0)
    x = Input("x", torch.zeros(2, 1, LENGTH), ("batch", None, "time"))
    return Signal().eval(), Autoregressive(
        "sample", "forward", x, "time", LEVELS, 1, scale, **options
    )


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    model, sampler = asked(prefix=True, controls=True)
    folder = tmp_path_factory.mktemp("runs") / "signal"
    results = toolkit.export(model, [sampler], folder)
    assert {
        name: item.outcome.reason for name, item in results.items() if not item.outcome.ok
    } == {}
    return model, folder


@torch.no_grad()
def test_one_forward_of_the_model_says_every_index_again(exported: tuple[nn.Module, Path]) -> None:
    model, folder = exported
    draws = np.random.default_rng(0)
    noise = draws.gumbel(size=(LENGTH, BATCH, LEVELS)).astype(np.float32)
    prefix = np.full((LENGTH, BATCH), -1)
    prefix[:2] = draws.integers(LEVELS, size=(2, BATCH))
    controls = (
        np.array([0.5, 1, 2, 1], np.float32),
        np.array([LEVELS, 2, 4, 1]),
        np.array([1, 0.9, 0.6, 1], np.float32),
    )
    drawn = torch.from_numpy(toolkit.load(folder)["sample.generate"](noise, prefix, *controls))
    logits = controlled(model(scale(drawn)).permute(2, 0, 1), *map(torch.from_numpy, controls))
    again = (logits + torch.from_numpy(noise)).argmax(-1)
    again[:2] = torch.from_numpy(prefix[:2])
    assert torch.equal(drawn[:, 0].T, again)
    # A sequence with one index changed is no sample of this noise.
    drawn[:, 0, 4] = (drawn[:, 0, 4] + 1) % LEVELS
    logits = controlled(model(scale(drawn)).permute(2, 0, 1), *map(torch.from_numpy, controls))
    assert not torch.equal((logits + torch.from_numpy(noise)).argmax(-1)[2:], drawn[:, 0].T[2:])


@pytest.mark.parametrize("part", ["generate", "step"])
def test_a_tap_dropped_after_the_proof_fails_the_export(tmp_path: Path, part: str) -> None:
    model, sampler = asked()
    entry = next(e for e in plain_entries(model, [sampler]) if e.name == f"sample.{part}")
    body = entry.call.schedule.draw if part == "generate" else entry.call.schedule.step
    taps = [value for value in body.buffers() if value.ndim >= 2 and value.numel() >= 64]
    taps[0].zero_()
    results = toolkit.export(model, [entry], tmp_path / "run")
    outcome = results[entry.name].outcome
    if part == "generate":
        assert not outcome.ok
        assert "parity" in outcome.reason
    else:
        # The graph is the module's; what the module should be, the next check knows.
        assert verdict(tmp_path / "run", results[entry.name].signature).status == "failed"


def verdict(folder: Path, signature: Any) -> Any:
    """Return what the check `stepwise` says of the exported step."""
    cases = load_cases(folder / "entries/sample.step/golden.safetensors")
    call = toolkit.load(folder)["sample.step"]
    path = folder / "entries/sample.step/exported.onnx"
    subject = Subject(signature, "exported", "onnxruntime", path, call.run, cases, lambda _: None)
    return checks.load("stepwise").judge(subject)


def test_the_steps_of_the_graph_are_the_whole_network(exported: tuple[nn.Module, Path]) -> None:
    _, folder = exported
    found = verdict(folder, toolkit.load(folder)["sample.step"].signature)
    assert found.status == "ok", found.reason
    assert 0 < found.limit < 1e-3


@pytest.mark.parametrize("name", ["sample.generate", "sample.logits"])
def test_causality_is_asked_of_a_users_own_sampler(
    exported: tuple[nn.Module, Path], name: str
) -> None:
    _, folder = exported
    cases = load_cases(folder / "entries" / name / "golden.safetensors")
    call = toolkit.load(folder)[name]
    path = folder / "entries" / name / "exported.onnx"
    subject = Subject(
        call.signature, "exported", "onnxruntime", path, call.run, cases, lambda _: None
    )
    assert checks.load("causality").judge(subject).status == "ok"


@pytest.mark.parametrize("size", [1, 3, 7])
def test_chunks_of_a_stream_give_the_logits_of_the_whole(
    exported: tuple[nn.Module, Path], size: int
) -> None:
    session = toolkit.load(exported[1])
    x = np.random.default_rng(3).normal(size=(BATCH, 1, LENGTH)).astype(np.float32)
    whole, columns = session["sample.logits"](x).transpose(2, 0, 1), x.transpose(2, 0, 1)
    stream = session["sample.step"].stream(batch=BATCH)
    chunks = [columns[start : start + size] for start in range(0, LENGTH, size)]
    np.testing.assert_allclose(np.concatenate([*map(stream.push, chunks)]), whole, atol=1e-4)
    with pytest.raises(UsageError, match=f"the graph takes {LENGTH}"):
        stream.step(columns[0])

    def forgotten(chunk: np.ndarray) -> np.ndarray:
        stream.reset()
        return stream.push(chunk)

    assert np.abs(np.concatenate([*map(forgotten, chunks)]) - whole).max() > 0.1
