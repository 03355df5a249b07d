import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import onnx
import pytest
import torch

from toolkit.core.errors import UsageError

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "bench" / "samplers.py"
BATCH, LEVELS = 2, 5
OPSET = onnx.helper.make_opsetid("", 21)


@pytest.fixture
def part(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(SCRIPT.parent)

    def load(name: str) -> ModuleType:
        return importlib.import_module(f"_samplers.{name}")

    return load


def gumbel(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).gumbel(size=shape).astype(np.float32))


# Sizes below those that are raced: positions, and which of them the whole network is asked at.
CACHED = {
    "pixelcnn": (3, [0, 1, 27, 28, 60, 83]),
    "gated": (2, [0, 5, 30, 55]),
    "wavenet": (12, [0, 1, 5, 11]),
    "gpt": (9, [0, 1, 8]),
    "lstm": (9, [0, 1, 8]),
    "nade": (10, list(range(10))),
}


@torch.inference_mode()
@pytest.mark.parametrize("name", CACHED)
def test_a_loop_with_a_cache_draws_what_whole_forwards_do(part, name):
    subject = part("subjects").SUBJECTS[name]
    size, positions = CACHED[name]
    network = part("race")._network(subject, size)
    noise = gumbel(*subject.noise(size, BATCH))
    drawn = subject.cached(network)(noise)
    whole = subject.naive(network, noise, drawn, positions)
    assert torch.equal(whole, drawn.flatten(1).T[positions])


@torch.inference_mode()
def test_stepping_an_lstm_draws_what_the_fused_cells_do(part):
    subject = part("subjects").SUBJECTS["lstm"]
    network, noise = part("race")._network(subject, 6), gumbel(6, BATCH, 128)
    assert torch.equal(subject.stepping(network)(noise), subject.cached(network)(noise))


@torch.inference_mode()
def test_the_flow_with_a_cache_inverts_as_whole_forwards_do(part):
    subject = part("subjects").SUBJECTS["maf"]
    network, z = part("race")._network(subject, 5), torch.randn(BATCH, 5)
    found = subject.cached(network)(z)
    torch.testing.assert_close(found, network.inverse(z), rtol=1e-5, atol=1e-5)


def test_a_sample_with_one_wrong_index_is_refused(part):
    expected = torch.arange(6).reshape(3, 2)
    wrong = expected.clone()
    wrong[2, 1] = 0
    part("check").same("cached", expected.clone(), expected)
    with pytest.raises(UsageError, match="cached draws other samples"):
        part("check").same("cached", wrong, expected)


def test_a_flow_that_is_off_by_more_than_rounding_is_refused(part):
    expected = torch.ones(3, 2)
    part("check").same("cached", expected + 1e-6, expected)
    with pytest.raises(UsageError):
        part("check").same("cached", expected + 1e-2, expected)


def test_the_floor_is_the_products_and_the_other_nodes(part):
    floor = part("floor")
    made = SimpleNamespace(count=3, bytes=4000)
    steps, chain = floor.STEPS, floor.CHAIN
    times = {"products": 5e3 * steps, "empty": 100.0, "chain": 100.0 + 200 * (chain - 1) * steps}
    found = floor.floor_us(times, made, nodes=13)
    assert found["node_us"] == pytest.approx(0.2)
    assert found["floor_us"] == pytest.approx(5 + 10 * 0.2)
    assert found["gigabytes_per_s"] == pytest.approx(0.8)


@pytest.mark.parametrize("name", ["lstm", "gpt", "nade"])
def test_the_floor_runs_and_counts_the_weights(part, name):
    floor, subject = part("floor"), part("subjects").SUBJECTS[name]
    made = floor.bench(subject, BATCH)
    for call in (made.products, made.chain, made.empty):
        call()
    shared = [product for product in subject.products if not product.stacked]
    weights = sum(4 * item.count * item.inner * item.outer for item in shared)
    assert made.bytes >= weights
    assert made.count == sum(product.count for product in subject.products)


def step_graph(path: Path, kept: str) -> None:
    """Write a step whose logits are a sum over the categories so far, kept as its state."""
    value = onnx.helper.make_tensor_value_info
    real, whole = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
    table = np.random.default_rng(1).normal(size=(LEVELS, LEVELS)).astype(np.float32)
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Gather", ["table", "x"], ["row"]),
            onnx.helper.make_node("Add", ["state_0", "row"], ["logits"]),
            onnx.helper.make_node("Identity", [kept], ["next_state_0"]),
        ],
        "step",
        [
            value("x", whole, ["batch"]),
            value("time", whole, []),
            value("state_0", real, ["batch", LEVELS]),
        ],
        [value(name, real, ["batch", LEVELS]) for name in ("logits", "next_state_0")],
        [onnx.numpy_helper.from_array(table, "table")],
    )
    onnx.save(onnx.helper.make_model(graph, ir_version=10, opset_imports=[OPSET]), path)


@pytest.mark.parametrize("aliased", [True, False])
def test_a_step_graph_is_stepped_with_bound_states(part, tmp_path, aliased):
    path, noise = tmp_path / "step.onnx", gumbel(12, BATCH, LEVELS).numpy()
    step_graph(path, kept="logits")
    session = part("graphs").opened(path)
    declared = SimpleNamespace(levels=LEVELS, start=2, predicts="next")
    stepper = part("graphs").Stepper(session, declared, BATCH, aliased=aliased)
    level, state, expected = np.full(BATCH, 2), np.zeros((BATCH, LEVELS), np.float32), []
    for here in noise:
        given = {"x": level, "time": np.array(0), "state_0": state}
        logits, state = session.run(None, given)
        level = (logits + here).argmax(1)
        expected.append(level)
    for _ in range(2):
        assert (stepper(noise, np.arange(LEVELS)) == np.stack(expected)).all()
    step_graph(path, kept="state_0")
    lost = part("graphs").Stepper(part("graphs").opened(path), declared, BATCH, aliased=aliased)
    assert not (lost(noise, np.arange(LEVELS)) == np.stack(expected)).all()


def test_saved_results_are_printed_with_a_verdict(tmp_path):
    def ratio(value):
        return {"value": value, "low": value, "high": value}

    reached = {"A/A": ratio(1), "generate over naive": ratio(81), "generate over cached": ratio(1)}
    batch = {
        "ratios": {"cpu": reached, "wall": reached},
        "ms": {"cpu": {"generate": 10.0}},
        "floor": {"share": 0.5, "floor_ms": 5.0},
    }
    file = {
        "layout": "scan",
        "nodes": 30,
        "nodes_as_run": 28,
        "load_s": 0.4,
        "bodies_as_run": [{"Scan": 1}, {"Gemm": 3}],
    }
    growth = [
        {"size": size, "positions": size, "cpu_ns": [size * 1e3, size * 1e3]} for size in (64, 256)
    ]
    row = {
        "title": "LSTM",
        "files": {"generate": file},
        "batches": {"1": batch, "16": batch},
        "growth": growth,
    }
    saved = tmp_path / "samplers.json"
    saved.write_text(json.dumps({"models": {"lstm": row}}))
    ran = subprocess.run(
        [sys.executable, str(SCRIPT), "--report", "--out", str(saved)],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = ran.stdout.splitlines()
    assert any("over naive" in line and "80" in line and "pass" in line for line in lines)
    assert any("over cached" in line and "fell short" in line for line in lines)
    assert any("scan" in line and "0.400 s" in line and "fell short" in line for line in lines)
    assert "3 nodes: 3 Gemm" in ran.stdout
