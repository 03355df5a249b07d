from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from toolkit.core import files
from toolkit.core.errors import UsageError
from toolkit.core.folder import RunFolder
from toolkit.core.recipe import Recipe, parse_recipe
from toolkit.core.registry import Registry
from toolkit.core.require import install_line, installed
from toolkit.core.signature import Signature, TensorSpec
from toolkit.stages import build

OK = {"status": "ok", "reason": ""}


class Library:
    """An engine library that refuses Det, crashes on Sin and copies every other graph."""

    formats = ("engine",)

    def __init__(self, absent: str = "") -> None:
        self.absent, self.jobs = absent, []

    def cannot_build(self) -> str:
        return self.absent

    def build(self, jobs, *, timeout, progress=None) -> list[dict[str, Any]]:
        self.jobs += jobs
        return [self._build(job) for job in jobs]

    def _build(self, job) -> dict[str, Any]:
        data = Path(job.onnx_path).read_bytes()
        if b"Det" in data:
            refused = [{"operator": "Det", "node": "n", "module": "inner"}]
            return {"status": "failed", "reason": "Det is refused", "refused": refused}
        if b"Sin" in data:
            return {"status": "failed", "reason": "the build process died", "refused": []}
        Path(job.engine_path).write_bytes(data)
        values = {"sha256": "0" * 64, "bytes": len(data), "seconds": 1.0, "refused": []}
        return {"status": "ok", "reason": "", **values}


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    library, load = Library(), Registry.load
    monkeypatch.setattr(
        Registry, "load", lambda self, name: library if name == "lib" else load(self, name)
    )
    return library


def recipe(**section: Any) -> Recipe:
    return parse_recipe({"name": "run", "build": section}, where="test")


def graph(path: Path, operator: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node(operator, ["x"], ["y"], "n")],
            "graph",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 3])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        ),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    onnx.save(model, path)


def make_folder(path: Path, kept: bool = True, **operators: str) -> RunFolder:
    """Leave what export and optimize leave, one entry per operator."""
    folder = RunFolder(path)
    exported: dict[str, Any] = {}
    optimized: dict[str, Any] = {}
    for entry, operator in operators.items():
        file = f"entries/{entry}/exported.onnx"
        half = f"entries/{entry}/fp16.onnx"
        graph(folder.path / file, operator)
        graph(folder.path / half, operator)
        signature = Signature(
            entry,
            "flow",
            (TensorSpec("x", "float32", ("batch", 3, 3)),),
            (TensorSpec("y", "float32", ("batch", 3, 3)),),
            {"batch": (1, 2, 16, 1), "time": (1, 2, 4, 1)},
        )
        exported[entry] = {"file": file, "signature": signature.as_dict(), "outcome": OK}
        verdict = {"kept": kept, "ratio": None, "reason": "misses its budget"}
        variant = {"file": half, "kept": {"tensorrt": verdict}}
        optimized[entry] = {"variants": {"fp16": variant}}
    folder.record("export", {"result": {"entries": exported}})
    folder.record("optimize", {"result": {"entries": optimized}})
    return folder


def test_one_row_for_every_entry_target_and_precision(tmp_path: Path, library: Library) -> None:
    folder = make_folder(tmp_path, forward="Neg", sample="Relu")
    seen: list[str] = []
    section = {"engines": ["lib"], "targets": ["8.6", "8.9"], "shapes": {"batch": (1, 4, 8)}}
    outcome = build.run(recipe(**section), folder, progress=seen.append)
    assert outcome.status == "ok"
    rows = outcome.detail["engines"]
    assert len(rows) == 8
    assert outcome.detail["files"] == [row["file"] for row in rows]
    assert "entries/sample/lib-8.9-fp16.engine" in outcome.detail["files"]
    for row in rows:
        source = "exported" if row["precision"] == "fp32" else "fp16"
        entry = folder.entry(row["entry"])
        assert (folder.path / row["file"]).read_bytes() == (entry / f"{source}.onnx").read_bytes()
    assert library.jobs[0].profiles == {"batch": (1, 4, 8), "time": (1, 2, 4)}
    assert seen == ["4 of 8 engines", "8 of 8 engines"]


def test_refused_operator_fails_its_row_and_not_the_stage(tmp_path: Path, library: Library) -> None:
    folder = make_folder(tmp_path, forward="Det", sample="Neg")
    stale = folder.entry("forward") / "lib-8.6-fp32.engine"
    stale.write_bytes(b"of an earlier build")
    outcome = build.run(recipe(engines=["lib"], targets=["8.6"]), folder)
    assert outcome.status == "ok"
    statuses = [row["status"] for row in outcome.detail["engines"]]
    assert statuses == ["failed", "failed", "ok", "ok"]
    assert outcome.detail["engines"][0]["refused"][0]["module"] == "inner"
    assert "forward lib 8.6 fp32 and 1 more: Det is refused" in outcome.reason
    assert not stale.exists()


def test_crash_fails_the_stage_after_the_others_are_built(tmp_path: Path, library: Library) -> None:
    folder = make_folder(tmp_path, forward="Sin", sample="Neg")
    outcome = build.run(recipe(engines=["lib"], targets=["8.6"]), folder)
    assert outcome.status == "failed"
    assert "2 built, 2 failed" in outcome.reason
    assert len(outcome.detail["files"]) == 2


def test_absent_library_is_skipped_with_its_install_line(tmp_path: Path, library: Library) -> None:
    library.absent = "not installed: pip install it"
    outcome = build.run(recipe(engines=["lib"]), make_folder(tmp_path, forward="Neg"))
    assert outcome.status == "skipped"
    assert "pip install it" in outcome.reason
    assert not library.jobs


def test_variants_that_are_not_kept_or_not_there_are_skipped(
    tmp_path: Path, library: Library
) -> None:
    folder = make_folder(tmp_path, kept=False, forward="Neg")
    section = {"engines": ["lib"], "targets": ["8.6"], "precisions": ["fp32", "fp16", "int8"]}
    rows = build.run(recipe(**section), folder).detail["engines"]
    assert [row["status"] for row in rows] == ["ok", "skipped", "skipped"]
    assert "misses its budget" in rows[1]["reason"]
    assert "no int8 variant" in rows[2]["reason"]


def test_a_variant_that_was_refused_says_why(tmp_path: Path, library: Library) -> None:
    folder = make_folder(tmp_path, forward="Neg")
    refused = {"variants": {}, "skipped": {"fp16": "nothing to halve"}}
    folder.record("optimize", {"result": {"entries": {"forward": refused}}})
    rows = build.run(recipe(engines=["lib"], targets=["8.6"]), folder).detail["engines"]
    reasons = {row["precision"]: row["reason"] for row in rows}
    assert reasons == {"fp32": "", "fp16": "there is no fp16 variant: nothing to halve"}


def test_entries_that_did_not_export_are_left_out(tmp_path: Path, library: Library) -> None:
    folder = make_folder(tmp_path, forward="Neg", sample="Neg")
    manifest = folder.manifest()
    manifest["stages"]["export"]["result"]["entries"]["sample"]["outcome"]["status"] = "failed"
    files.write_json(folder.manifest_path, manifest)
    rows = build.run(recipe(engines=["lib"], targets=["8.6"]), folder).detail["engines"]
    assert {row["entry"] for row in rows} == {"forward"}


def test_backend_without_engines_is_a_usage_error(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, forward="Neg")
    with pytest.raises(UsageError, match="builds no engines"):
        build.run(recipe(engines=["onnxruntime"]), folder)


def test_current_target_without_a_gpu_is_left_to_the_library(
    tmp_path: Path, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_folder(tmp_path, forward="Neg")
    for here, expected in (("9.0", "9.0"), ("", "current")):
        monkeypatch.setattr("toolkit.backends._tensorrt_build.device_capability", lambda h=here: h)
        rows = build.run(recipe(engines=["lib"], targets=["current"]), folder).detail["engines"]
        assert {row["target"] for row in rows} == {expected}


@pytest.mark.tensorrt
@pytest.mark.skipif(
    not installed("tensorrt_rtx"),
    reason=f"tensorrt_rtx is not installed: {install_line('tensorrt-rtx')}",
)
def test_real_engines(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, forward="Neg", inverse="Det")
    engines = ["tensorrt-rtx", *([] if installed("tensorrt") else ["tensorrt"])]
    outcome = build.run(recipe(engines=engines, targets=["8.6"]), folder)
    assert outcome.status == "ok"
    rows = {
        (row["entry"], row["engine"], row["precision"]): row for row in outcome.detail["engines"]
    }
    built = rows["forward", "tensorrt-rtx", "fp32"]
    assert built["file"] == "entries/forward/tensorrt-rtx-8.6-fp32.engine"
    assert files.sha256(folder.path / built["file"]) == built["sha256"]
    assert rows["inverse", "tensorrt-rtx", "fp16"]["refused"][0]["operator"] == "Det"
    if "tensorrt" in engines:
        assert install_line("tensorrt") in rows["forward", "tensorrt", "fp32"]["reason"]
