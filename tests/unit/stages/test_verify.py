"""Verify: findings of every variant, from the folder alone; a fault fails the stage."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

import toolkit
from toolkit.core.errors import MissingError
from toolkit.core.files import write_json
from toolkit.core.folder import RunFolder
from toolkit.core.protocols import Artifact
from toolkit.core.recipe import load_recipe
from toolkit.core.registry import backends
from toolkit.stages import verify
from toolkit.stages._record import stage_module


@pytest.fixture
def run_copy(finished_run: Callable[[str, str], RunFolder], tmp_path: Path) -> RunFolder:
    shutil.copytree(finished_run("realnvp", "export").path, tmp_path / "realnvp")
    folder = RunFolder(tmp_path / "realnvp")
    manifest = folder.manifest()
    manifest["stages"] = {name: manifest["stages"][name] for name in ("train", "export")}
    write_json(folder.manifest_path, manifest)
    return folder


def plant_wrong_weight(path: Path) -> None:
    model = onnx.load(path)
    weight = max(model.graph.initializer, key=lambda item: len(item.raw_data))
    array = numpy_helper.to_array(weight).copy()
    array.flat[0] += 0.5
    weight.CopyFrom(numpy_helper.from_array(array, weight.name))
    onnx.save(model, path)


def test_every_check_answers_and_all_pass(run_copy: RunFolder) -> None:
    recipe = load_recipe(run_copy.path / "recipe.toml")
    outcome = verify.run(recipe, run_copy)
    assert outcome.status == "ok", outcome.reason
    findings = json.loads((run_copy.path / verify.FINDINGS).read_text())["findings"]
    asked = {(item["check"], item["entry"]) for item in findings}
    assert {("log_det", "log_prob"), ("round_trip", "inverse"), ("parity", "sample")} <= asked
    assert outcome.detail["ok"] == len(findings)


def test_a_wrong_weight_fails_the_stage(run_copy: RunFolder) -> None:
    plant_wrong_weight(run_copy.entry("log_prob") / "exported.onnx")
    outcome = verify.run(load_recipe(run_copy.path / "recipe.toml"), run_copy)
    assert outcome.status == "failed"
    assert "log_prob" in outcome.reason
    assert outcome.detail["failed"] >= 1


def test_a_variant_that_does_not_open_is_a_failed_finding(run_copy: RunFolder) -> None:
    path = run_copy.entry("sample") / "exported.onnx"
    path.write_bytes(path.read_bytes()[:200])
    findings = toolkit.verify(run_copy.path)
    broken = [item for item in findings if item.entry == "sample"]
    assert [item.status for item in broken] == ["failed"]
    assert all(item.status == "ok" for item in findings if item.entry == "log_prob")


def test_an_absent_backend_is_skipped_with_the_reason(
    run_copy: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = backends.load("onnxruntime")
    monkeypatch.setattr(type(found), "absent", lambda self, **_: "pip install 'toolkit[cpu]'")
    findings = toolkit.verify(run_copy.path)
    assert {item.status for item in findings} == {"skipped"}
    assert all("pip install" in item.reason for item in findings)


def test_new_inputs_are_answered_by_the_model(run_copy: RunFolder) -> None:
    from toolkit.stages._model import load_model

    recipe = load_recipe(run_copy.path / "recipe.toml")
    x = np.random.default_rng(0).normal(size=(32, 2)).astype(np.float32)
    model = load_model(recipe, run_copy)
    findings = toolkit.verify(run_copy.path, model=model, inputs={"x": x})
    parity = [item for item in findings if item.check == "parity" and item.entry == "log_prob"]
    assert [item.status for item in parity] == ["ok"]
    assert parity[0].detail["rows"][0]["samples"] == 32


class Engines:
    """An engine library whose engines answer as the exported graph does, 64 samples at most."""

    formats = ("engine",)

    def __init__(self) -> None:
        self.sizes: set[int] = set()

    def absent(self, **_: object) -> str:
        return ""

    def open(self, artifact: Artifact, **_: object) -> Any:
        graph = dataclasses.replace(artifact, path=artifact.path.with_name("exported.onnx"))
        runner = backends.load("onnxruntime").open(graph)
        plain = type(runner).__call__

        class Counted(type(runner)):
            def __call__(inner, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
                self.sizes.add(len(feeds["noise"]))
                return plain(inner, feeds)

        runner.__class__ = Counted
        return runner


def test_an_engine_is_judged_by_its_own_backend_target_and_budget(
    run_copy: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        {
            "entry": "sample",
            "engine": "tensorrt-rtx",
            "target": target,
            "precision": "fp16",
            "status": "ok",
            "file": f"entries/sample/tensorrt-rtx-{target}-fp16.engine",
        }
        for target in ("8.6", "8.9")
    ]
    run_copy.record("build", {"status": "ok", "result": {"files": [], "engines": rows}})
    engines = Engines()
    monkeypatch.setattr("toolkit.backends.tensorrt_rtx.backend", engines)
    monkeypatch.setattr(verify, "device_capability", lambda _: "8.9")
    found = [item for item in toolkit.verify(run_copy.path) if item.variant.endswith("fp16")]
    assert {item.backend for item in found} == {"tensorrt-rtx"}
    (other,) = [item for item in found if "8.6" in item.variant]
    assert (other.status, "8.6, the GPU here has 8.9" in other.reason) == ("skipped", True)
    parity = next(item for item in found if "8.9" in item.variant and item.check == "parity")
    assert (parity.status, parity.unit) == ("ok", "absolute")
    budget = load_recipe(run_copy.path / "recipe.toml").optimize.budget["fp16"]
    assert parity.limit == budget["absolute"]
    assert max(engines.sizes) == 64


@pytest.mark.parametrize("stage", ["optimize", "verify", "bench"])
@pytest.mark.parametrize(
    "setting", ['device="cuda"', 'providers=["cuda"]'], ids=["device", "providers"]
)
def test_a_device_that_is_not_here_is_missing_not_failed(
    run_copy: RunFolder, stage: str, setting: str
) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    settings = [setting, 'bench.backends=["onnxruntime"]']
    recipe = load_recipe(run_copy.path / "recipe.toml", settings=settings)
    with pytest.raises(MissingError, match="nothing here can run") as caught:
        stage_module(stage).run(recipe, run_copy)
    assert "pip install" in caught.value.where
