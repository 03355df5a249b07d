"""A miniature verified run folder and its bundle, made without training or torch."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from toolkit.core.case import Case, save_cases
from toolkit.core.files import sha256, write_json
from toolkit.core.folder import RunFolder
from toolkit.core.recipe import OptimizeSection, Recipe
from toolkit.core.signature import Signature, TensorSpec
from toolkit.stages import bundle

# A job in the background starts with interrupts ignored, and so would all that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

WEIGHT = np.random.default_rng(0).normal(size=(4, 4))
LOGITS = np.random.default_rng(1).normal(size=(3, 1, 5))
MINI_RECIPE = Recipe(name="miniature", optimize=OptimizeSection(budget={"fp16": {"nats": 0.5}}))


def density_graph(weight: np.ndarray) -> onnx.ModelProto:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Mul", ["h", "h"], ["h2"]),
        helper.make_node("ReduceSum", ["h2", "axes"], ["s"], keepdims=0),
        helper.make_node("Mul", ["s", "minus_half"], ["log_prob"]),
    ]
    graph = helper.make_graph(
        nodes,
        "density",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("log_prob", TensorProto.FLOAT, ["batch"])],
        [
            numpy_helper.from_array(weight.astype(np.float32), "w"),
            numpy_helper.from_array(np.array([1]), "axes"),
            numpy_helper.from_array(np.float32(-0.5), "minus_half"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def sampler_graph() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Add", ["noise", "logits"], ["scores"]),
        helper.make_node("ArgMax", ["scores"], ["levels"], axis=2, keepdims=0),
        helper.make_node("Transpose", ["levels"], ["sample"], perm=[1, 0]),
    ]
    graph = helper.make_graph(
        nodes,
        "sampler",
        [helper.make_tensor_value_info("noise", TensorProto.FLOAT, [3, "batch", 5])],
        [helper.make_tensor_value_info("sample", TensorProto.INT64, ["batch", 3])],
        [numpy_helper.from_array(LOGITS.astype(np.float32), "logits")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


SIGNATURES = {
    "log_prob": Signature(
        "log_prob",
        "flow",
        (TensorSpec("x", "float32", ("batch", 4)),),
        (TensorSpec("log_prob", "float32", ("batch",), kind="output", unit="nats"),),
        {"batch": (1, 8, 1024)},
    ),
    "sample.generate": Signature(
        "sample.generate",
        "autoregressive",
        (TensorSpec("noise", "float32", (3, "batch", 5), kind="noise", law="gumbel"),),
        (TensorSpec("sample", "int64", ("batch", 3), kind="output", unit="index"),),
        {"batch": (1, 8, 1024)},
    ),
}


def density(x: np.ndarray, dtype: type) -> np.ndarray:
    h = x.astype(dtype) @ WEIGHT.astype(np.float32).astype(dtype)
    return -dtype(0.5) * (h * h).sum(1)


def golden_cases() -> dict[str, list[Case]]:
    generator = np.random.default_rng(2)
    x = generator.normal(size=(64, 4)).astype(np.float32)
    noise = generator.gumbel(size=(3, 64, 5)).astype(np.float32)
    drawn = (noise.astype(np.float64) + LOGITS.astype(np.float32)).argmax(2).T
    return {
        "log_prob": [
            Case(
                "parity",
                "real",
                {"x": x},
                {"log_prob": density(x, np.float64)},
                {"log_prob": density(x, np.float32)},
            )
        ],
        "sample.generate": [
            Case("parity", "noise", {"noise": noise}, {"sample": drawn}, {"sample": drawn})
        ],
    }


def make_run(root: Path) -> RunFolder:
    folder = RunFolder(root)
    cases = golden_cases()
    exported, optimized = {}, {}
    for entry, signature in SIGNATURES.items():
        graph = density_graph(WEIGHT) if entry == "log_prob" else sampler_graph()
        graphs = {"exported": graph, "fp32": graph}
        if entry == "log_prob":
            graphs["fp16"] = density_graph(WEIGHT.astype(np.float16))
        folder.entry(entry).mkdir(parents=True)
        files = {}
        for variant, model in graphs.items():
            files[variant] = f"entries/{entry}/{variant}.onnx"
            onnx.save(model, root / files[variant])
        save_cases(folder.entry(entry) / "golden.safetensors", cases[entry])
        exported[entry] = {"signature": signature.as_dict(), "file": files.pop("exported")}
        optimized[entry] = {
            "variants": {
                variant: {
                    "file": file,
                    "sha256": sha256(root / file),
                    "kept": {"onnxruntime": {"kept": True, "ratio": None, "reason": ""}},
                }
                for variant, file in files.items()
            }
        }
    results = {
        "export": {"files": [], "family": "flow", "entries": exported},
        "optimize": {"files": [], "entries": optimized},
        "verify": {"files": [], "ok": 3, "failed": 0, "skipped": 1},
        "bench": {"files": ["bench/results.json"]},
    }
    for stage, result in results.items():
        folder.record(stage, {"status": "ok", "reason": "", "outputs": {}, "result": result})
    row = {"entry": "log_prob", "backend": "onnxruntime", "batch": 1, "threads": 1}
    rows = [
        {**row, "variant": "fp32", "role": "contestant", "p50_ms": 0.02, "noise_band": 0.005},
        {**row, "variant": "fp32", "role": "noise", "p50_ms": 0.02, "noise_band": 0.005},
    ]
    write_json(root / "bench/results.json", {"machine": {"processor": "test"}, "rows": rows})
    return folder


@pytest.fixture(scope="session")
def pristine_run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A bundled run folder that no test may change."""
    folder = make_run(tmp_path_factory.mktemp("run") / "miniature")
    outcome = bundle.run(MINI_RECIPE, folder)
    assert outcome.status == "ok", outcome.reason
    return folder


@pytest.fixture
def mini_recipe() -> Recipe:
    return MINI_RECIPE


@pytest.fixture
def mini_run(pristine_run: RunFolder, tmp_path: Path) -> RunFolder:
    """A private copy of the miniature run folder."""
    shutil.copytree(pristine_run.path, tmp_path / "miniature")
    return RunFolder(tmp_path / "miniature")


@pytest.fixture(scope="session")
def bundle_zip(pristine_run: RunFolder) -> Path:
    """The miniature bundle; read only."""
    return pristine_run.path / "bundle.zip"


@pytest.fixture
def unpacked(bundle_zip: Path, tmp_path: Path) -> Path:
    """A private unpacked copy of the miniature bundle."""
    with zipfile.ZipFile(bundle_zip) as archive:
        archive.extractall(tmp_path / "unpacked")
    return tmp_path / "unpacked"


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], RunFolder]:
    """Return a function that runs a recipe's fastest setting up to a stage, once per session.

    The workers of a parallel session share the folders; read only.
    """
    base = tmp_path_factory.getbasetemp()
    root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "finished-runs"
    root.mkdir(exist_ok=True)

    def run(name: str, stage: str) -> RunFolder:
        from toolkit.core.recipe import load_recipe
        from toolkit.stages.pipeline import run_pipeline

        folder = RunFolder(root / name)
        with (root / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            steps = run_pipeline(load_recipe(name, fast=True), folder, last=stage)
        assert all(step.outcome.ok for step in steps), steps[-1].outcome.reason
        return folder

    return run
