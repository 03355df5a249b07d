from __future__ import annotations

import pytest

from toolkit.core.errors import ExportError, UsageError
from toolkit.core.files import write_json
from toolkit.core.folder import RunFolder
from toolkit.core.outcome import Outcome
from toolkit.stages import sweep as module
from toolkit.stages.pipeline import Step
from toolkit.stages.sweep import KEPT_OUT, Cell, rows_of, sweep

KEPT = {"kept": True, "ratio": 1.2, "reason": ""}


def record(folder: RunFolder, stage: str, result) -> None:
    folder.record(stage, {"status": "ok", "reason": "", "result": result})


@pytest.fixture
def finished(tmp_path) -> RunFolder:
    folder = RunFolder(tmp_path / "flow")
    entries = {"log_prob": {}, "sample": {}}
    record(folder, "export", {"entries": entries, "failed": {"inverse": "no lowering"}})
    slower = {"kept": False, "ratio": 0.8, "reason": "slower than fp32: 0.8x"}
    unsigned = {"kept": False, "ratio": None, "reason": "its activations are uint8"}
    variants = {
        "fp32": {"file": "a", "kept": {"onnxruntime": KEPT}},
        "fp16": {"file": "b", "kept": {"onnxruntime": slower, "tensorrt": KEPT}},
        "int8": {"file": "c", "kept": {"onnxruntime": KEPT, "tensorrt": unsigned}},
    }
    record(
        folder,
        "optimize",
        {
            "entries": {
                "log_prob": {"variants": variants, "skipped": {"mixed": "no large product"}},
                "sample": {"variants": {"fp32": variants["fp32"]}, "skipped": {}},
            }
        },
    )
    return folder


def cells(folder: RunFolder) -> dict[str, dict[str, Cell]]:
    return {row.entry: row.cells for row in rows_of("flow", folder)}


def test_rows_say_what_became_of_every_variant(finished):
    found = cells(finished)
    assert found["log_prob"] == {
        "exported": Cell("ok"),
        "fp32": Cell("ok"),
        "fp16": Cell(KEPT_OUT, "onnxruntime: slower than fp32: 0.8x"),
        "int8": Cell("ok", "tensorrt: its activations are uint8"),
        "mixed": Cell(KEPT_OUT, "no large product"),
    }
    assert found["inverse"] == {"exported": Cell("failed", "no lowering")}


def test_failed_finding_fails_its_variant(finished):
    findings = [
        {"check": "parity", "backend": "onnxruntime", "reason": "off", **item}
        for item in (
            {"entry": "sample", "variant": "fp32", "status": "failed"},
            {"entry": "log_prob", "variant": "fp32", "status": "ok"},
        )
    ]
    write_json(finished.path / "verify" / "findings.json", {"findings": findings})
    record(finished, "verify", {})
    found = cells(finished)
    assert found["sample"]["fp32"] == Cell("failed", "parity on onnxruntime: off")
    assert found["log_prob"]["fp32"].status == "ok"


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([("ok", []), ("skipped", [])], "ok"),
        ([("failed", [{"operator": "Det"}])], KEPT_OUT),
        ([("ok", []), ("failed", [])], "failed"),
        ([("skipped", [])], KEPT_OUT),
    ],
)
def test_engines_are_counted(finished, rows, expected):
    engines = [
        {
            "entry": "sample",
            "engine": "tensorrt-rtx",
            "target": "8.6",
            "status": status,
            "refused": refused,
            "reason": status,
        }
        for status, refused in rows
    ]
    record(finished, "build", {"engines": engines})
    cell = cells(finished)["sample"]["tensorrt-rtx 8.6"]
    assert cell.status == expected
    built = sum(status == "ok" for status, _ in rows)
    assert cell.reason.startswith(f"{built} of {len(rows)} built")


def test_one_that_fails_does_not_stop_the_others(monkeypatch, tmp_path):
    ran = []

    def pipeline(recipe, folder, *, last, watch):
        ran.append((recipe.name, last, folder.path))
        if recipe.name == "glow":
            raise ExportError("no lowering for aten.digamma", where="inner")
        if recipe.name == "realnvp":
            raise RuntimeError("the user's own")
        result = {"entries": {"forward": {}}, "failed": {}}
        record(folder, "export", result)
        return [Step("export", Outcome("ok", detail=result), 0.1, current=False)]

    monkeypatch.setattr(module, "run_pipeline", pipeline)
    rows = sweep(["glow", "nosuch", "realnvp", "resnet"], last="export", root=tmp_path)
    reasons = {row.recipe: row.reason for row in rows}
    assert reasons["glow"] == "no lowering for aten.digamma where: inner"
    assert "there is no recipe" in reasons["nosuch"]
    assert reasons["realnvp"] == "RuntimeError: the user's own"
    assert reasons["resnet"] == ""
    assert [row.recipe for row in rows if row.failed] == ["glow", "nosuch", "realnvp"]
    assert [name for name, _, _ in ran] == ["glow", "realnvp", "resnet"]
    assert ran[-1][1:] == ("export", tmp_path / "resnet")


def test_stage_that_fails_is_a_reason(monkeypatch, tmp_path):
    failed = Step("train", Outcome("failed", "loss is NaN"), 0.1, current=False)
    monkeypatch.setattr(module, "run_pipeline", lambda *_, **__: [failed])
    (row,) = sweep(["glow"], root=tmp_path)
    assert (row.reason, row.failed) == ("train: loss is NaN", True)


@pytest.mark.parametrize("given", [{"targets": []}, {"targets": ["glow"], "place": "ray"}])
def test_nothing_or_nowhere_is_refused(given):
    targets = given.pop("targets")
    with pytest.raises(UsageError):
        sweep(targets, **given)
