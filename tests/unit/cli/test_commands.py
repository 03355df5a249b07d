from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from toolkit.cli._app import build_app
from toolkit.cli.bench import interval, numbers
from toolkit.core.errors import UsageError
from toolkit.core.files import write_json, write_text
from toolkit.core.folder import RunFolder
from toolkit.core.recipe import Recipe


def toolkit(*words: object):
    return CliRunner().invoke(build_app(), [str(word) for word in words])


def document(*words: object):
    result = toolkit(*words, "--json")
    return result.exit_code, json.loads(result.stdout)


@pytest.fixture
def run(mini_run: RunFolder, mini_recipe: Recipe) -> RunFolder:
    """The miniature run with the recipe that a pipeline would have left."""
    write_text(
        mini_run.path / "recipe.toml",
        f'name = "{mini_recipe.name}"\n[optimize.budget.fp16]\nnats = 0.5\n',
    )
    manifest = mini_run.manifest()
    for record in manifest["stages"].values():
        record["outputs"] = {}
    write_json(mini_run.manifest_path, manifest)
    return mini_run


def test_inspect_lists_every_graph_of_a_run(run):
    code, rows = document("inspect", run.path)
    assert code == 0
    assert {(row["entry"], row["variant"]) for row in rows} == {
        ("log_prob", "exported"),
        ("log_prob", "fp32"),
        ("log_prob", "fp16"),
        ("sample.generate", "exported"),
        ("sample.generate", "fp32"),
    }


def test_inspect_shows_a_file_to_people(run):
    shown = toolkit("inspect", run.entry("log_prob") / "fp32.onnx", "--size", "batch=4").stdout
    assert "x: float32[batch, 4]" in shown
    assert "128 at batch=4" in shown


@pytest.mark.parametrize("size", ["batch", "batch=0", "=3", "batch=two"])
def test_inspect_refuses_a_size_that_is_none(run, size):
    code, error = document("inspect", run.path, "--size", size)
    assert code == 2
    assert error["next"] == "write it like batch=8"


def test_debug_exits_1_and_names_the_node(run):
    shutil.copy(run.entry("log_prob") / "fp16.onnx", run.entry("log_prob") / "fp32.onnx")
    result = toolkit("debug", run.path, "--entry", "log_prob")
    assert result.exit_code == 1
    assert "the error is introduced here" in result.stdout
    assert "MatMul" in result.stdout


def test_debug_exits_0_where_nothing_diverges(run):
    code, found = document("debug", run.path)
    assert code == 0
    assert [item["output"] for item in found] == ["", ""]


def test_bundle_copies_to_the_asked_place(run, tmp_path):
    code, said = document("bundle", run.path, "-o", tmp_path / "deep" / "x.zip")
    assert code == 0
    assert Path(said["path"]).read_bytes() == (run.path / "bundle.zip").read_bytes()


def test_bundle_exits_1_where_verify_failed(run, tmp_path):
    manifest = run.manifest()
    manifest["stages"]["verify"]["result"]["failed"] = 1
    run.manifest_path.write_text(json.dumps(manifest))
    code, said = document("bundle", run.path, "-o", tmp_path / "x.zip")
    assert code == 1
    assert said["path"] is None
    assert not (tmp_path / "x.zip").exists()


def test_selftest_passes_a_good_bundle(bundle_zip):
    code, said = document("selftest", bundle_zip)
    assert code == 0
    assert said["status"] == "ok"
    assert {result["check"] for result in said["results"]} == {"checksums", "golden", "latency"}


def test_deploy_brings_the_result_back(bundle_zip):
    code, said = document("deploy", bundle_zip, "--device", "local")
    assert code == 0
    assert said["device"] == "local"
    assert "golden" in toolkit("deploy", bundle_zip, "--device", "local").stdout


def test_deploy_names_the_device_nearest_to_an_unknown_one(bundle_zip):
    code, error = document("deploy", bundle_zip, "--device", "shh://board")
    assert code == 2
    assert "'ssh'" in error["next"]


def test_sweep_names_the_places_there_are():
    code, error = document("sweep", "glow", "--on", "ray")
    assert code == 2
    assert error["next"] == "known: local"


def test_sweep_refuses_names_beside_all():
    assert document("sweep", "glow", "--all")[0] == 2


def test_numbers_are_read():
    assert numbers("--batch", "1, 16") == [1, 16]
    assert numbers("--batch", "") == []


@pytest.mark.parametrize("text", ["0", "1,x", "-1"])
def test_numbers_are_whole_and_positive(text):
    with pytest.raises(UsageError, match="--batch"):
        numbers("--batch", text)


def test_interval_is_shown():
    assert interval([0.5, 1.25]) == "0.5 to 1.25"
    assert interval(None) is None


def test_sample_writes_the_same_draws_for_the_same_seed(run, tmp_path):
    import numpy as np

    drawn = {}
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        file = tmp_path / f"{name}.npz"
        code, said = document("sample", run.path, "-n", 5, "--seed", seed, "-o", file)
        assert (code, said["outputs"]["sample"]["shape"]) == (0, [5, 3])
        drawn[name] = np.load(file)["sample"]
    assert np.array_equal(drawn["a"], drawn["b"])
    assert not np.array_equal(drawn["a"], drawn["c"])


def test_sample_says_which_forms_there_are(run, tmp_path):
    code, error = document("sample", run.path, "-o", tmp_path / "x.mp4")
    assert code == 2
    assert ".npz" in error["next"]


def test_bench_takes_its_options_to_the_stage(run):
    words = ["--backend", "onnxruntime", "--entry", "log_prob", "--batch", "1,4"]
    code, said = document("bench", run.path, *words, "--duration", 0.1, "--set", "bench.slot=0.02")
    assert code == 0
    rows = [row for row in said["rows"] if row["role"] == "contestant"]
    assert {(row["entry"], row["batch"], row["backend"]) for row in rows} == {
        ("log_prob", 1, "onnxruntime"),
        ("log_prob", 4, "onnxruntime"),
    }
    assert {row["rounds"] for row in rows} == {5}


def test_compare_of_a_run_with_itself_is_not_decided_against_it(run):
    code, said = document("compare", run.path, run.path, "--duration", 0.1)
    assert code in (0, 5)
    rows = said["detail"]["rows"]
    assert [row["difference"] for row in rows] == [0.0, 0.0]
    decided = any(row["verdict"] != "undecided" for row in rows)
    assert code == (0 if decided else 5)


def test_compare_exits_1_where_a_run_cannot_be_timed(run):
    code, said = document("compare", run.path, run.path, "--backend", "toolkit.cli:none")
    assert code == 1
    assert "has no attribute 'none'" in said["reason"]
