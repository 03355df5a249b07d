import json
import os
import tomllib
from dataclasses import asdict

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from safetensors.numpy import save_file

from toolkit.core.case import Case, save_cases
from toolkit.core.errors import ExportError, MissingError, UsageError
from toolkit.core.folder import RunFolder
from toolkit.core.recipe import parse_recipe
from toolkit.core.signature import Signature, TensorSpec
from toolkit.stages import _entries, bench
from toolkit.stages._bench import court
from toolkit.stages._bench.inputs import draw, inputs_for
from toolkit.stages._bench.reference import reference

FAKE = """
class Runner:
    def prepare(self, feeds):
        return lambda: feeds["x"].sum()

    def close(self):
        pass


class Backend:
    formats = ("onnx",)

    def absent(self, **_):
        return ""

    def open(self, artifact, **_):
        assert artifact.path.name
        return Runner()


class Absent(Backend):
    def absent(self, **_):
        return "not here: pip install fake"


backend, absent = Backend(), Absent()
"""

MODEL = """
from toolkit.core.entry import Entry, Input
import torch


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(3))

    def forward(self, x):
        return x * self.weight

    def entries(self):
        return [Entry("forward", inputs=[Input("x", torch.ones(2, 3), dims=("batch", None))])]
"""

SIGNATURE = Signature(
    "forward",
    "",
    (TensorSpec("x", "float32", ("batch", 3)),),
    (TensorSpec("y", "float32", ("batch", 3)),),
    {"batch": (1, 8, 64)},
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(court, "WARM_UP", 0.05)
    (tmp_path / "fake_bench.py").write_text(FAKE)
    (tmp_path / "bench_model.py").write_text(MODEL)
    monkeypatch.syspath_prepend(str(tmp_path))
    run = RunFolder(tmp_path / "run")
    run.entry("forward").mkdir(parents=True)
    save_graph(run.entry("forward") / "exported.onnx")
    save_file({"weight": np.ones(3, np.float32)}, run.path / "weights.safetensors")
    record(
        run,
        "export",
        forward={"signature": asdict(SIGNATURE), "file": "entries/forward/exported.onnx"},
    )
    return run


def record(run, stage, **entries):
    run.record(stage, {"status": "ok", "outputs": {}, "result": {"entries": entries}})


def save_graph(path):
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "weight"], ["y"])],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor("weight", TensorProto.FLOAT, [3], [1.0, 1.0, 1.0])],
    )
    opset = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), path)


def recipe(**settings):
    table = {"rounds": 4, "slot": 0.005, **settings}
    return parse_recipe({"model": {"name": "bench_model:Model"}, "bench": table}, where="test")


def results(folder):
    return json.loads((folder.path / bench.RESULTS).read_text())


def test_times_the_real_backends_against_eager(folder):
    outcome = bench.run(recipe(backends=["onnxruntime", "eager"], batches=[2]), folder)
    assert outcome.status == "ok"
    rows = results(folder)["rows"]
    assert [(row["backend"], row["variant"], row["verdict"] == "baseline") for row in rows] == [
        ("eager", "fp32", True),
        ("onnxruntime", "exported", False),
        ("eager A/A", "fp32", False),
    ]
    assert {row["baseline"] for row in rows} == {"eager fp32"}
    assert all(row["batch"] == 2 and row["p50_ms"] > 0 and row["ratio"] > 0 for row in rows)
    for file in outcome.detail["files"]:
        assert (folder.path / file).is_file()


def test_runs_every_kept_variant_at_every_batch(folder):
    fake = "fake_bench:backend"
    variants = {
        "fp32": {"file": "a.onnx", "kept": {}},
        "fp16": {"file": "b.onnx", "kept": {fake: {"kept": True}}},
        "int8": {"file": "c.onnx", "kept": {fake: {"kept": False}, "other": {"kept": True}}},
    }
    record(folder, "optimize", forward={"variants": variants})
    bench.run(recipe(backends=[fake], batches=[1, 4]), folder)
    rows = results(folder)["rows"]
    assert [(row["variant"], row["batch"]) for row in rows if row["role"] == "contestant"] == [
        ("fp32", 1),
        ("fp16", 1),
        ("fp32", 4),
        ("fp16", 4),
    ]


def test_the_python_form_records_what_it_measured(folder):
    (folder.path / "recipe.toml").write_text("")
    fake = "fake_bench:backend"
    rows = bench.bench(folder.path, backends=[fake], rounds=4, slot=0.005)
    assert [row["backend"] for row in rows] == [fake, f"{fake} A/A"]
    assert folder.stage("bench")["rows"] == 2
    with pytest.raises(UsageError, match="unknown key"):
        bench.bench(folder.path, laps=3)
    with pytest.raises(MissingError, match="pip install fake"):
        bench.bench(folder.path, backends=["fake_bench:absent"])


def test_what_is_absent_is_skipped_with_its_reason(folder):
    outcome = bench.run(recipe(backends=["fake_bench:absent", "fake_bench:backend"]), folder)
    assert outcome.status == "ok"
    skipped = [{"backend": "fake_bench:absent", "reason": "not here: pip install fake"}]
    assert results(folder)["skipped"] == skipped


def test_nothing_that_can_run_is_missing_with_the_install_line(folder):
    with pytest.raises(MissingError) as caught:
        bench.run(recipe(backends=["fake_bench:absent"]), folder)
    assert "pip install fake" in caught.value.where


def test_a_baseline_without_weights_gives_its_place_to_the_next(folder):
    (folder.path / "weights.safetensors").unlink()
    bench.run(recipe(backends=["eager", "fake_bench:backend"]), folder)
    assert results(folder)["rows"][0]["verdict"] == "baseline"
    lost = results(folder)["skipped"][0]
    assert lost["backend"] == "eager"
    assert "no weights" in lost["reason"]


@pytest.mark.parametrize(
    "settings", [{"scenario": "server"}, {"entries": ["backward"]}, {"backends": ["eagre"]}]
)
def test_wrong_settings_are_named(folder, settings):
    with pytest.raises(UsageError) as caught:
        bench.run(recipe(**settings), folder)
    assert caught.value.next_step


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [("forward", 1)]),
        ({"compile_entries": ["inverse"]}, [("inverse", 1)]),
        ({"compile_entries": ["forward", "inverse"]}, [("forward", 1), ("inverse", 1)]),
    ],
)
def test_compiling_takes_part_once_per_entry(folder, settings, expected):
    exported = {"signature": asdict(SIGNATURE), "file": "x"}
    record(folder, "export", forward=exported, inverse=exported)
    chosen = recipe(batches=[1, 16], **settings)
    taking = [
        case
        for case in bench._cases(chosen, folder)
        if "compile" in bench._taking_part(["eager", "compile"], chosen, folder, *case)
    ]
    assert taking == expected


def test_golden_inputs_are_cut_and_repeated_along_the_batch(tmp_path):
    signature = Signature(
        "sample",
        "",
        (
            TensorSpec("noise", "float32", (2, "batch")),
            TensorSpec("context", "float32", ("batch",)),
        ),
        (),
    )
    golden = tmp_path / "golden.safetensors"
    inputs = {
        "noise": np.arange(6, dtype=np.float32).reshape(2, 3),
        "context": np.arange(3, dtype=np.float32),
    }
    save_cases(golden, [Case("parity", "real", inputs), Case("parity", "noise", {})])
    few = inputs_for(signature, golden, batch=2)
    assert few["noise"].tolist() == [[0, 1], [3, 4]]
    many = inputs_for(signature, golden, batch=5)
    assert many["context"].tolist() == [0, 1, 2, 0, 1]
    assert many["noise"].shape == (2, 5)


def test_drawn_inputs_follow_kind_law_and_range():
    signature = Signature(
        "step",
        "",
        (
            TensorSpec("token", "int64", ("batch", "time"), low=3, high=4),
            TensorSpec("uniform", "float32", ("batch", 500), law="uniform"),
            TensorSpec("mask", "bool", (50,)),
        ),
        (),
        {"time": (1, 30, 100)},
    )
    drawn = draw(signature, batch=2)
    assert drawn["token"].shape == (2, 30)
    assert set(np.unique(drawn["token"])) == {3, 4}
    assert 0 <= drawn["uniform"].min() < 0.1 < 0.9 < drawn["uniform"].max() <= 1
    assert drawn["mask"].dtype == np.bool_
    assert len(set(drawn["mask"].tolist())) == 2


def test_a_fixed_batch_refuses_another():
    signature = Signature("forward", "", (TensorSpec("x", "float32", (1, 3)),), ())
    missing = os.devnull + "-none"
    assert inputs_for(signature, bench.Path(missing), batch=1)["x"].shape == (1, 3)
    with pytest.raises(UsageError, match="no dynamic batch"):
        inputs_for(signature, bench.Path(missing), batch=2)


def test_eager_of_a_plain_entry_waits_for_no_sampler_to_be_derived(finished_run, monkeypatch):
    folder = finished_run("pixelcnn", "train").path
    recipe = tomllib.loads((folder / "recipe.toml").read_text())

    def refused(*_):
        raise ExportError("derived")

    monkeypatch.setattr(_entries, "sampler_entries", refused)
    assert reference(recipe, str(folder), "log_prob")
    with pytest.raises(ExportError, match="derived"):
        reference(recipe, str(folder), "sample.generate")
    with pytest.raises(UsageError, match="no entry 'log_probe'"):
        reference(recipe, str(folder), "log_probe")
