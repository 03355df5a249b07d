"""Verify: findings of every variant, from the folder alone; a fault fails the stage."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import toolkit
from toolkit.core.files import write_json
from toolkit.core.folder import RunFolder
from toolkit.core.recipe import load_recipe
from toolkit.stages import verify


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
    from toolkit.core.registry import backends

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
