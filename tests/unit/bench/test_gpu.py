import importlib
import math
import os
import subprocess
import sys
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "bench" / "gpu.py"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(SCRIPT.parent)
    monkeypatch.syspath_prepend(ROOT)
    return importlib.import_module("gpu")


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPT, "--out", folder / "gpu.json", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_without_a_device_it_says_what_it_skips_and_succeeds(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    for name in ("eager", "compile", "onnxruntime tensorrt", "tensorrt", "tensorrt-rtx"):
        assert f"skipped {name}: " in done.stdout
    assert "skipped all runs: exported/ is empty" in done.stdout
    assert not (tmp_path / "gpu.json").exists()


def test_unknown_run_is_one_clear_error(tmp_path: Path) -> None:
    done = run(tmp_path, "glwo")
    assert done.returncode == 2
    assert "there is no run 'glwo'" in done.stderr
    assert "Traceback" not in done.stderr


def opened(gpu: ModuleType, value: torch.Tensor) -> object:
    return gpu.Opened("eager", "fp32", False, lambda: None, lambda: {"y": value})


@pytest.mark.parametrize(
    ("ours", "expected", "difference"),
    [
        (torch.tensor([1.0, 2.5]), torch.tensor([1.0, 2.0]), 0.5),
        (torch.tensor([1.0, math.nan]), torch.tensor([1.0, 2.0]), None),
        (torch.tensor([1, 3]), torch.tensor([1, 2]), None),
        (torch.tensor([1, 2]), torch.tensor([1, 2]), 0.0),
        (torch.tensor([-math.inf, 2.0]), torch.tensor([-math.inf, 2.0]), 0.0),
        (torch.tensor([math.inf, 2.0]), torch.tensor([-math.inf, 2.0]), None),
    ],
)
def test_wrong_answers_are_told_from_close_ones(
    gpu: ModuleType, ours: torch.Tensor, expected: torch.Tensor, difference: float | None
) -> None:
    assert gpu._difference(opened(gpu, expected), opened(gpu, ours)) == difference


def test_rows_judge_against_eager(gpu: ModuleType) -> None:
    slots = {
        "eager": [[2.0, 2.0, 2.0]] * 12,
        gpu.TWIN: [[2.0, 2.0, 2.0]] * 12,
        "engine": [[0.5, 0.5, 0.5]] * 12,
    }
    contestants = {label: opened(gpu, torch.zeros(1)) for label in slots}
    latency = {label: [3.0] for label in slots}
    rows = gpu._rows(contestants, slots, latency, dict.fromkeys(slots, 0.0), batch=4, seed=0)
    verdicts = {row["contestant"]: (row["ratio"], row["verdict"]) for row in rows}
    assert verdicts["engine"] == (pytest.approx(4.0), "faster")
    assert verdicts[gpu.TWIN][1] == "undecided"
    assert rows[2]["throughput_per_s"] == pytest.approx(8000.0)


class Graph:
    """A double of a CUDA graph: it keeps nothing of what it captured, as the real one."""

    def replay(self) -> None:
        pass


def test_a_replay_keeps_what_its_graph_reads(
    gpu: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = SimpleNamespace(synchronize=lambda: None)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: nullcontext())
    monkeypatch.setattr(torch.cuda, "graph", lambda *_, **__: nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)

    def reads(weights: torch.Tensor) -> Callable[[], object]:
        return lambda: weights + 1

    weights = torch.ones(3)
    alive = weakref.ref(weights)
    replay = importlib.import_module("_gpu_contestants").captured(reads(weights), stream)
    del weights
    replay()
    assert alive() is not None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
def test_device_slots_time_the_calls(gpu: ModuleType) -> None:
    matrix = torch.ones(2048, 2048, device="cuda")
    samples = gpu._device_slot(lambda: matrix @ matrix, 10)
    assert len(samples) == 10
    assert all(sample > 0 for sample in samples)
    stream = torch.cuda.Stream()
    total = torch.zeros(1, device="cuda")
    replay = importlib.import_module("_gpu_contestants").captured(lambda: total.add_(1), stream)
    replay()
    torch.cuda.synchronize()
    assert total.item() > 0
