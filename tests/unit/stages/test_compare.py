from dataclasses import asdict
from itertools import pairwise

import onnx
import pytest
from onnx import TensorProto, helper

from toolkit.core.errors import UsageError
from toolkit.core.folder import RunFolder
from toolkit.core.signature import Signature, TensorSpec
from toolkit.stages._bench import court
from toolkit.stages.compare import Terms, compare

BRIEF = Terms(rounds=4, slot=0.005, batches=(2,))


@pytest.fixture
def make_run(tmp_path, monkeypatch):
    monkeypatch.setattr(court, "WARM_UP", 0.05)

    def make(name, *, factor=2.0, extra=0, size=3, entry="forward"):
        run = RunFolder(tmp_path / name)
        file = f"entries/{entry}/exported.onnx"
        run.entry(entry).mkdir(parents=True)
        save_graph(run.path / file, factor, extra, size)
        signature = Signature(
            entry,
            "",
            (TensorSpec("x", "float32", ("batch", size)),),
            (TensorSpec("y", "float32", ("batch", size)),),
        )
        recorded = {entry: {"signature": asdict(signature), "file": file}}
        run.record("export", {"result": {"entries": recorded}})
        return run

    return make


def save_graph(path, factor, extra, size):
    """Multiply by a factor; a long chain that changes nothing makes it slower."""
    names = ["scaled", *(f"t{i}" for i in range(extra)), "y"]
    links = pairwise(names)
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["x", "factor"], ["scaled"]),
            *(helper.make_node("Floor", [a], [b]) for a, b in links),
        ],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", size])],
        [helper.make_tensor("factor", TensorProto.FLOAT, [], [factor])],
    )
    opset = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), path)


def test_says_speed_parity_and_size(make_run):
    outcome = compare(make_run("a", extra=300), make_run("b"), BRIEF)
    assert outcome.status == "ok"
    (row,) = outcome.detail["rows"]
    assert row["interval"][0] > 1.0
    assert row["difference"] == 0.0
    assert row["bytes"][0] > row["bytes"][1] > 0
    assert row["noise_band"] > 0


def test_unequal_answers_are_shown(make_run):
    (row,) = compare(make_run("a"), make_run("b", factor=1000.0), BRIEF).detail["rows"]
    assert row["difference"] > 10


def test_a_damaged_graph_fails_with_its_reason(make_run):
    damaged = make_run("b")
    (damaged.entry("forward") / "exported.onnx").write_bytes(b"nothing")
    outcome = compare(make_run("a"), damaged, BRIEF)
    assert outcome.status == "failed"
    assert outcome.detail["rows"][0]["verdict"] == "undecided"
    assert "cannot be read" in outcome.reason


@pytest.mark.parametrize("other", [{"size": 4}, {"entry": "inverse"}])
def test_runs_without_a_common_entry_are_refused(make_run, other):
    with pytest.raises(UsageError, match="no entry in common"):
        compare(make_run("a"), make_run("b", **other), BRIEF)
