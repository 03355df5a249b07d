"""The bundle stage: what goes in, what keeps it from being written, same bytes twice."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from toolkit.core.case import Case, load_cases, save_cases
from toolkit.core.errors import IntegrityError, UsageError
from toolkit.core.files import write_json
from toolkit.core.folder import RunFolder
from toolkit.core.recipe import Recipe
from toolkit.core.signature import Signature, TensorSpec
from toolkit.runtime import load, selftest
from toolkit.stages import bundle
from toolkit.stages._bundled import describe_graph, shorten


def change(folder: RunFolder, stage: str, edit: Any) -> None:
    manifest = folder.manifest()
    edit(manifest["stages"][stage]["result"])
    write_json(folder.manifest_path, manifest)


def table_of(folder: RunFolder) -> dict[str, Any]:
    with zipfile.ZipFile(folder.path / "bundle.zip") as archive:
        table: dict[str, Any] = json.loads(archive.read("manifest.json"))
    return table


def test_the_bundle_says_what_it_holds(mini_run: RunFolder, mini_recipe: Recipe) -> None:
    outcome = bundle.run(mini_recipe, mini_run)
    assert outcome.status == "ok"
    assert outcome.detail["files"] == ["bundle.zip"]
    assert outcome.detail["bytes"] == (mini_run.path / "bundle.zip").stat().st_size
    table = table_of(mini_run)
    entry = table["entries"]["log_prob"]
    assert set(entry["variants"]) == {"fp16", "fp32"}
    assert entry["default"] == "fp32"
    assert entry["variants"]["fp32"]["opset"] == {"ai.onnx": 20}
    assert entry["variants"]["fp32"]["operators"] == {"MatMul": 1, "Mul": 2, "ReduceSum": 1}
    assert entry["variants"]["fp16"]["limits"]["log_prob"]["limit"] == 0.5
    assert entry["variants"]["fp32"]["limits"]["log_prob"]["unit"] == "absolute"
    assert table["verified"] == {"ok": 3, "failed": 0, "skipped": 1}
    assert [row["variant"] for row in table["latency"]] == ["fp32"]
    assert table["engines"] == []


def test_the_same_folder_gives_the_same_bytes(mini_run: RunFolder, mini_recipe: Recipe) -> None:
    path = mini_run.path / "bundle.zip"
    first = path.read_bytes()
    bundle.run(mini_recipe, mini_run)
    assert path.read_bytes() == first


def test_a_failed_verification_bundles_nothing(mini_run: RunFolder, mini_recipe: Recipe) -> None:
    change(mini_run, "verify", lambda result: result.update(failed=2))
    outcome = bundle.run(mini_recipe, mini_run)
    assert outcome.status == "failed"
    assert "2 failed findings" in outcome.reason
    assert not (mini_run.path / "bundle.zip").exists()


def test_without_verification_it_says_what_to_run(mini_run: RunFolder, mini_recipe: Recipe) -> None:
    manifest = mini_run.manifest()
    del manifest["stages"]["verify"]
    write_json(mini_run.manifest_path, manifest)
    with pytest.raises(UsageError, match="'verify' has not run"):
        bundle.run(mini_recipe, mini_run)


def test_a_bundle_that_fails_its_own_test_is_not_written(
    mini_run: RunFolder, mini_recipe: Recipe
) -> None:
    path = mini_run.path / "entries/log_prob/fp32.onnx"
    model = onnx.load(path)
    weight = numpy_helper.to_array(model.graph.initializer[0]) * np.float32(1.01)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, "w"))
    onnx.save(model, path)
    outcome = bundle.run(mini_recipe, mini_run)
    assert outcome.status == "failed"
    assert "its own self-test" in outcome.reason
    assert not (mini_run.path / "bundle.zip").exists()
    assert not list(mini_run.path.glob(".*"))


def test_integers_that_differ_fail_the_bundle(mini_run: RunFolder, mini_recipe: Recipe) -> None:
    path = mini_run.path / "entries/sample.generate/fp32.onnx"
    model = onnx.load(path)
    logits = numpy_helper.to_array(model.graph.initializer[0])[..., ::-1].copy()
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(logits, "logits"))
    onnx.save(model, path)
    outcome = bundle.run(mini_recipe, mini_run)
    assert outcome.status == "failed"
    assert "sample.generate fp32 sample" in outcome.reason


def test_a_budget_beyond_policy_is_refused(mini_run: RunFolder, mini_recipe: Recipe) -> None:
    section = mini_recipe.optimize.model_copy(update={"budget": {"fp16": {"nats": 1e9}}})
    before = (mini_run.path / "bundle.zip").read_bytes()
    with pytest.raises(IntegrityError, match="above policy"):
        bundle.run(mini_recipe.model_copy(update={"optimize": section}), mini_run)
    assert (mini_run.path / "bundle.zip").read_bytes() == before


@pytest.mark.parametrize(
    ("kept", "ratio", "variants", "default"),
    [
        (True, 1.5, {"fp16", "fp32"}, "fp16"),
        (True, 0.9, {"fp16", "fp32"}, "fp32"),
        (False, 2.0, {"fp32"}, "fp32"),
    ],
)
def test_the_fastest_kept_variant_is_the_default(
    kept: bool,
    ratio: float,
    variants: set[str],
    default: str,
    mini_run: RunFolder,
    mini_recipe: Recipe,
) -> None:
    verdict = {"onnxruntime": {"kept": kept, "ratio": ratio, "reason": ""}}
    change(
        mini_run,
        "optimize",
        lambda result: result["entries"]["log_prob"]["variants"]["fp16"].update(kept=verdict),
    )
    bundle.run(mini_recipe, mini_run)
    entry = table_of(mini_run)["entries"]["log_prob"]
    assert (set(entry["variants"]), entry["default"]) == (variants, default)


def test_without_optimize_the_exported_graph_is_bundled(
    mini_run: RunFolder, mini_recipe: Recipe
) -> None:
    manifest = mini_run.manifest()
    del manifest["stages"]["optimize"], manifest["stages"]["bench"]
    write_json(mini_run.manifest_path, manifest)
    assert bundle.run(mini_recipe, mini_run).status == "ok"
    assert set(table_of(mini_run)["entries"]["log_prob"]["variants"]) == {"exported"}


def test_engines_travel_when_asked(mini_run: RunFolder, mini_recipe: Recipe) -> None:
    file = "entries/log_prob/tensorrt-rtx-8.6-fp16.engine"
    (mini_run.path / file).write_bytes(b"engine")
    row = {
        "entry": "log_prob",
        "engine": "tensorrt-rtx",
        "precision": "fp16",
        "target": "8.6",
        "file": file,
    }
    rows = [{**row, "status": "ok"}, {**row, "status": "failed", "file": "none"}]
    mini_run.record("build", {"status": "ok", "reason": "", "result": {"engines": rows}})
    bundle.run(mini_recipe, mini_run, engines=True)
    assert table_of(mini_run)["engines"] == [row]
    assert file in table_of(mini_run)["files"]


def test_external_data_travels_with_its_graph(mini_run: RunFolder, mini_recipe: Recipe) -> None:
    path = mini_run.path / "entries/log_prob/fp32.onnx"
    onnx.save(
        onnx.load(path),
        path,
        save_as_external_data=True,
        location="fp32.data",
        size_threshold=64,
    )
    assert describe_graph(path)[1] == ["fp32.data"]
    assert bundle.run(mini_recipe, mini_run).status == "ok"
    assert "entries/log_prob/fp32.data" in table_of(mini_run)["files"]
    x = np.ones((2, 4), np.float32)
    bundled = load(mini_run.path / "bundle.zip").log_prob(x)
    assert np.array_equal(bundled, load(mini_run.path).log_prob(x))


def test_golden_samples_are_cut_along_the_batch(mini_run: RunFolder) -> None:
    with zipfile.ZipFile(mini_run.path / "bundle.zip") as archive:
        archive.extractall(mini_run.path / "out")
    (case,) = load_cases(mini_run.path / "out/entries/sample.generate/golden.safetensors")
    assert case.inputs["noise"].shape == (3, 16, 5)
    assert case.oracle["sample"].shape == case.eager["sample"].shape == (16, 3)


@pytest.mark.parametrize(
    ("dims", "shape", "ranges", "kept"),
    [
        (("batch", 4), (64, 4), {}, 16),
        (("batch", 4), (5, 4), {}, 5),
        (("batch", 4), (64, 4), {"batch": (32, 32, 64)}, 32),
        (("batch", 4), (64, 4), {"batch": (1, 8, 64, 12)}, 24),
        (("batch", 1 << 16), (8, 1 << 16), {}, 3),
        ((2, 4), (64, 4), {}, 2),
    ],
)
def test_a_case_is_shortened(
    dims: tuple[Any, ...], shape: tuple[int, ...], ranges: dict[str, Any], kept: int
) -> None:
    spec = TensorSpec("x", "float32", dims)
    signature = Signature("f", "any", (spec,), (TensorSpec("y", "float32", dims[:1]),), ranges)
    rows = np.zeros(shape[0], np.float32)
    case = Case("parity", "real", {"x": np.zeros(shape, np.float32)}, {"y": rows}, {"y": rows})
    short = shorten(case, signature)
    assert short.inputs["x"].shape[0] == short.oracle["y"].shape[0] == kept


def test_a_golden_file_without_answers_is_an_error(
    mini_run: RunFolder, mini_recipe: Recipe
) -> None:
    case = Case("parity", "real", {"x": np.zeros((2, 4), np.float32)})
    save_cases(mini_run.entry("log_prob") / "golden.safetensors", [case])
    with pytest.raises(UsageError, match="no golden outputs"):
        bundle.run(mini_recipe, mini_run)


def test_a_flip_of_one_class_among_few_samples_is_no_failure(tmp_path: Path) -> None:
    """A budget of 1 % over 200 samples cannot hold over 16, where one flip is 6.25 %."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(200, 3)).astype(np.float32)
    oracle = x.astype(np.float64)
    oracle[3] = oracle[3, [1, 2, 0]]
    node = helper.make_node("Identity", ["x"], ["logits"])
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
    )
    folder = RunFolder(tmp_path / "run")
    folder.entry("forward").mkdir(parents=True)
    file = "entries/forward/exported.onnx"
    opset = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), folder.path / file)
    case = Case("parity", "real", {"x": x}, {"logits": oracle}, {"logits": x})
    save_cases(folder.entry("forward") / "golden.safetensors", [case])
    signature = Signature(
        "forward",
        "classifier",
        (TensorSpec("x", "float32", ("batch", 3)),),
        (TensorSpec("logits", "float32", ("batch", 3), kind="output", unit="accuracy"),),
    )
    entries = {"forward": {"signature": signature.as_dict(), "file": file}}
    for stage, result in {
        "export": {"entries": entries},
        "verify": {"ok": 1, "failed": 0, "skipped": 0},
    }.items():
        folder.record(stage, {"status": "ok", "reason": "", "result": result})
    recipe = Recipe.model_validate({"name": "tiny", "verify": {"budget": {"accuracy": 1.0}}})
    assert bundle.run(recipe, folder).status == "ok"
    (golden,) = [item for item in selftest(folder.path / "bundle.zip") if item.check == "golden"]
    assert golden.value == golden.limit == 6.25
    assert "budget of 1 accuracy; 6.25 on these samples" in golden.reason


def test_findings_of_an_earlier_state_are_not_bundled(
    mini_recipe: Recipe, mini_run: RunFolder
) -> None:
    verified = mini_run.manifest()["stages"]["verify"]
    mini_run.record("verify", {**verified, "key": "of other graphs"})
    with pytest.raises(UsageError, match="earlier state") as raised:
        bundle.run(mini_recipe, mini_run)
    assert "toolkit verify" in raised.value.next_step
