"""The optimize stage on a hand-made run folder: verdicts, rollbacks, variants, replay."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from toolkit.core.case import Case, save_cases
from toolkit.core.errors import ExportError, UsageError
from toolkit.core.files import sha256
from toolkit.core.folder import RunFolder
from toolkit.core.recipe import OptimizeSection, Recipe
from toolkit.core.signature import Signature, TensorSpec
from toolkit.core.statistics import Ratio
from toolkit.stages import optimize
from toolkit.stages._optimize import trial
from toolkit.stages._optimize.ledger import Ledger
from toolkit.stages._optimize.race import Raced, Timing
from toolkit.stages._optimize.rewrite import chosen_passes

TEXT = """
<ir_version: 10, opset_import: ["": 20]>
g (float[batch,64] x) => (float[batch] log_prob, int64[batch] best) {
  scaled = Mul (x, scale)
  h = Gemm (scaled, w)
  a = Relu (h)
  logits = Gemm (a, v)
  best = ArgMax <axis = 1, keepdims = 0> (logits)
  s = Softplus (logits)
  e = Exp (s)
  log_prob = ReduceSum <keepdims = 0> (e, axes)
}
"""
QUICK = Timing(slot=0.0002, rounds=2, most=2, fresh=1)
FASTER, SLOWER, EQUAL = (
    Raced(Ratio(value, 0.99 * value, 1.01 * value), 0.005) for value in (1.5, 0.5, 1.001)
)
BROKEN = """
from dataclasses import dataclass
from toolkit.core.protocols import Change

@dataclass
class Rewrite:
    order: int = 5
    portable: bool = True

    def __call__(self, model):
        for node in model.graph:
            if node.op_type == "Relu":
                node.op_type = "Abs"
                return Change(1)
        return Change(0, "no Relu")

@dataclass
class Raises(Rewrite):
    def __call__(self, model):
        raise ValueError("lost its way")

rewrite, raises = Rewrite(), Raises()
"""


def arrays() -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    return {
        "scale": draw.uniform(0.5, 2, size=64),
        "w": draw.normal(size=(64, 64)) / 8,
        "v": draw.normal(size=(64, 5)) / 8,
    }


def evaluate(x: np.ndarray, dtype: type) -> dict[str, np.ndarray]:
    a = {name: array.astype(np.float32).astype(dtype) for name, array in arrays().items()}
    logits = np.maximum((x.astype(dtype) * a["scale"]) @ a["w"], dtype(0)) @ a["v"]
    total = np.exp(np.logaddexp(dtype(0), logits)).sum(1)
    return {"log_prob": total, "best": logits.argmax(1)}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run folder as the export stage leaves it."""
    folder = RunFolder(tmp_path / "run")
    path = folder.entry("log_prob") / "exported.onnx"
    path.parent.mkdir(parents=True)
    model = parser.parse_model(TEXT)
    constants = {name: array.astype(np.float32) for name, array in arrays().items()}
    for name, array in {**constants, "axes": np.array([1])}.items():
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    onnx.save(onnx.shape_inference.infer_shapes(model), path)
    signature = Signature(
        "log_prob",
        "flow",
        (TensorSpec("x", "float32", ("batch", 64)),),
        (
            TensorSpec("log_prob", "float32", ("batch",), kind="output", unit="nats"),
            TensorSpec("best", "int64", ("batch",), kind="output", unit="index"),
        ),
        {"batch": (1, 8, 64)},
    )
    x = np.random.default_rng(1).normal(size=(256, 64)).astype(np.float32)
    case = Case("parity", "real", {"x": x}, evaluate(x, np.float64), evaluate(x, np.float32))
    save_cases(path.with_name("golden.safetensors"), [case])
    record = {
        "signature": signature.as_dict(),
        "file": "entries/log_prob/exported.onnx",
        "sha256": sha256(path),
    }
    result = {"files": [], "entries": {"log_prob": record}}
    folder.record("export", {"status": "ok", "reason": "", "result": result})
    return folder


@pytest.fixture
def verdicts(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Return a function that fixes what races say; it returns the list of races that ran.

    A list of answers is used up one by one.
    """

    def fix(**by_name: Raced | list[Raced]) -> list[str]:
        ran: list[str] = []

        def race(_: Any, baseline: Path, contestant: Path, **__: Any) -> Raced:
            name = contestant.stem.removeprefix("log_prob-").partition("-")[0]
            ran.append(name if baseline.stem != "log_prob" else f"first {name}")
            answer = by_name.get(name, by_name.get("rest", EQUAL))
            return answer.pop(0) if isinstance(answer, list) else answer

        monkeypatch.setattr(trial, "race", race)
        return ran

    return fix


def recipe(**optimize_section: Any) -> Recipe:
    section = {
        "budget": {"fp16": {"nats": 1.0, "index": 0.05}, "int8": {"nats": 5.0, "index": 0.2}}
    }
    return Recipe(name="run", optimize=OptimizeSection(**{**section, **optimize_section}))


def rows(folder: RunFolder, variant: str = "fp32") -> dict[str, dict[str, Any]]:
    ledger = json.loads((folder.path / "ledger.json").read_text())
    return {row["pass"]: row for row in ledger["rows"] if row["variant"] == variant}


def graph(folder: RunFolder, name: str) -> onnx.ModelProto:
    return onnx.load(folder.entry("log_prob") / f"{name}.onnx")


def operators(folder: RunFolder, name: str = "fp32") -> list[str]:
    return [node.op_type for node in graph(folder, name).graph.node]


def test_every_pass_has_a_row_and_every_variant_a_file(folder: RunFolder) -> None:
    outcome = optimize.run(recipe(), folder, timing=QUICK)
    assert outcome.status == "ok"
    table = rows(folder)
    names = [name for name, _ in chosen_passes([])]
    assert list(table) == [*names, "all"]
    folded = table["affine_into_conv"]
    assert folded["operators"] == {"Mul": -1}
    assert folded["nodes"] == [8, 7]
    assert 0 < folded["error"] <= folded["limit"]
    assert folded["interval"][0] <= folded["ratio"] <= folded["interval"][1]
    assert table["squeeze"]["ratio"] is None
    assert table["squeeze"]["reason"]
    variants = outcome.detail["entries"]["log_prob"]["variants"]
    assert set(variants) == {"fp32", "fp16", "int8"}
    for variant in variants.values():
        assert sha256(folder.path / variant["file"]) == variant["sha256"]
        assert set(variant["kept"]) == {"onnxruntime", "tensorrt"}
    for file in outcome.detail["files"]:
        assert (folder.path / file).is_file()


def test_replayed_verdicts_give_the_same_bytes_without_timing(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = optimize.run(recipe(), folder, timing=QUICK)
    before = {file: (folder.path / file).read_bytes() for file in first.detail["files"]}

    def no_race(*_: Any, **__: Any) -> Raced:
        raise AssertionError("a replay must not time anything")

    monkeypatch.setattr(trial, "race", no_race)
    second = optimize.run(recipe(), folder, replay=Ledger.load(folder))
    assert second.detail == first.detail
    assert {file: (folder.path / file).read_bytes() for file in before} == before


def test_a_ledger_of_another_graph_is_not_replayed(folder: RunFolder, verdicts) -> None:
    optimize.run(recipe(), folder, timing=QUICK)
    ledger = Ledger.load(folder)
    ran = verdicts()
    optimize.run(recipe(), folder, replay=Ledger(ledger.rows, {"log_prob": "0" * 64}))
    assert "first affine_into_conv" in ran


@pytest.mark.parametrize(
    ("raced", "name", "kept", "reason"),
    [
        (FASTER, "affine_into_conv", True, "faster: 1.50x"),
        (SLOWER, "affine_into_conv", False, "rolled back: slower, 0.50x"),
        (EQUAL, "affine_into_conv", True, "undecided at 1.00x; kept for 1 nodes fewer"),
        (FASTER, "softplus", True, "faster: 1.50x"),
        (EQUAL, "softplus", False, "only for speed on this runtime, and undecided"),
        (SLOWER, "softplus", False, "rolled back: slower"),
    ],
)
def test_verdicts(folder: RunFolder, verdicts, raced, name, kept, reason) -> None:
    verdicts(**{name: raced})
    optimize.run(recipe(passes=[name], variants=["fp32"]), folder)
    row = rows(folder)[name]
    assert row["kept"] is kept
    assert reason in row["reason"]
    gone = {"affine_into_conv": "Mul", "softplus": "Softplus"}[name]
    assert (gone not in operators(folder)) == kept


def test_what_only_onnxruntime_likes_stays_out_of_the_other_variants(
    folder: RunFolder, verdicts
) -> None:
    verdicts(rest=FASTER)
    optimize.run(recipe(variants=["fp32", "fp16"]), folder)
    assert "Softplus" not in operators(folder)
    assert "Softplus" in operators(folder, "fp16")
    assert "Mul" not in operators(folder, "fp16")


def test_a_graph_that_got_slower_in_all_is_left_as_exported(folder: RunFolder, verdicts) -> None:
    verdicts(affine_into_conv=[EQUAL, SLOWER])
    outcome = optimize.run(recipe(passes=["affine_into_conv"], variants=["fp32"]), folder)
    assert rows(folder)["affine_into_conv"]["kept"]
    assert not rows(folder)["all"]["kept"]
    assert operators(folder) == operators(folder, "exported")
    kept = outcome.detail["entries"]["log_prob"]["variants"]["fp32"]["kept"]["onnxruntime"]
    assert kept["kept"]
    assert kept["ratio"] == 1.0
    assert "0.50x" in kept["reason"]


@pytest.fixture
def faulty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "faulty_passes.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(tmp_path)
    return "faulty_passes"


def test_a_wrong_pass_is_rolled_back(folder: RunFolder, verdicts, faulty: str) -> None:
    ran = verdicts(rest=FASTER)
    name = f"{faulty}:rewrite"
    optimize.run(recipe(passes=[name], variants=["fp32"]), folder)
    row = rows(folder)[name]
    assert not row["kept"]
    assert row["error"] > row["limit"]
    assert row["reason"].startswith("rolled back: ")
    assert "log_prob on real" in row["reason"] or "best on real" in row["reason"]
    assert not ran
    assert operators(folder) == operators(folder, "exported")


def test_a_pass_that_raises_is_named(folder: RunFolder, faulty: str) -> None:
    with pytest.raises(UsageError, match=r"faulty_passes:raises.*lost its way") as caught:
        optimize.run(recipe(passes=[f"{faulty}:raises"]), folder)
    assert "log_prob" in caught.value.where
    assert "optimize.passes" in caught.value.next_step


def test_an_unknown_pass_names_the_nearest(folder: RunFolder) -> None:
    with pytest.raises(UsageError) as caught:
        optimize.run(recipe(passes=["simplfy"]), folder)
    assert "did you mean 'simplify'?" in caught.value.next_step


def test_variants_are_kept_or_left_out_per_backend(folder: RunFolder, verdicts) -> None:
    verdicts(fp16=SLOWER, int8=FASTER)
    outcome = optimize.run(recipe(), folder)
    variants = outcome.detail["entries"]["log_prob"]["variants"]
    assert variants["fp16"]["kept"] == {
        "onnxruntime": {"kept": False, "ratio": 0.5, "reason": "slower than fp32: 0.50x"},
        "tensorrt": {"kept": True, "ratio": None, "reason": "speed unknown: no GPU here"},
    }
    assert variants["int8"]["kept"]["onnxruntime"]["kept"]
    assert not variants["int8"]["kept"]["tensorrt"]["kept"]
    assert "uint8" in variants["int8"]["kept"]["tensorrt"]["reason"]


def test_of_the_int8_schemes_the_fastest_stays(folder: RunFolder, verdicts) -> None:
    ran = verdicts(int8=[SLOWER, FASTER])
    only = recipe(variants=["int8"], budget={"int8": {"nats": 1e6, "index": 1.0}}, passes=["power"])
    outcome = optimize.run(only, folder)
    assert ran == ["first int8", "first int8"]
    assert list(rows(folder, "int8")) == ["everywhere"]
    kept = outcome.detail["entries"]["log_prob"]["variants"]["int8"]["kept"]
    assert kept["onnxruntime"]["ratio"] == 1.5

    again = optimize.run(only, folder, replay=Ledger.load(folder))
    assert again.detail["entries"] == outcome.detail["entries"]
    assert ran == ["first int8", "first int8"]


def test_mixed_keeps_small_products_in_float32(folder: RunFolder, verdicts) -> None:
    verdicts()
    optimize.run(recipe(variants=["mixed"], passes=["power"]), folder)
    made = rows(folder, "mixed")
    assert list(made) == ["mixed"]
    assert made["mixed"]["operators"] == {"Cast": 2}


@pytest.mark.parametrize(
    ("budget", "reason"),
    [
        ({"nats": 1e-9, "index": 1.0}, r"misses its budget: .* nats > 1e-09"),
        ({"index": 1.0}, r"misses its budget: .* absolute > "),
    ],
    ids=["nats", "none for the unit"],
)
def test_a_variant_over_its_budget_is_written_but_not_kept(
    folder: RunFolder, verdicts, budget, reason
) -> None:
    ran = verdicts()
    only = recipe(variants=["fp32", "fp16"], budget={"fp16": budget}, passes=["power"])
    outcome = optimize.run(only, folder)
    variant = outcome.detail["entries"]["log_prob"]["variants"]["fp16"]
    assert (folder.path / variant["file"]).is_file()
    assert not ran
    for backend in ("onnxruntime", "tensorrt"):
        assert not variant["kept"][backend]["kept"]
    (row,) = rows(folder, "fp16").values()
    assert row["reason"] == variant["kept"]["tensorrt"]["reason"]
    assert re.match(reason, row["reason"])


def test_integers_fall_back_to_equality(folder: RunFolder, verdicts) -> None:
    verdicts()
    only = recipe(variants=["int8"], budget={"int8": {"nats": 1e6}}, passes=["power"])
    outcome = optimize.run(only, folder)
    variant = outcome.detail["entries"]["log_prob"]["variants"]["int8"]
    assert variant["unit"] == "index"
    assert variant["limit"] == 0.0
    assert variant["error"] > 0
    assert "fp32" in outcome.detail["entries"]["log_prob"]["variants"]


def test_a_variant_that_cannot_be_made_says_why(folder: RunFolder, verdicts) -> None:
    verdicts()
    (folder.entry("log_prob") / "bf16.onnx").write_text("of an earlier run")
    outcome = optimize.run(recipe(variants=["fp32", "bf16"], passes=["power"]), folder)
    assert not (folder.entry("log_prob") / "bf16.onnx").exists()
    entry = outcome.detail["entries"]["log_prob"]
    assert set(entry["variants"]) == {"fp32"}
    assert "no way to make the variant 'bf16'" in entry["skipped"]["bf16"]


def test_without_parity_cases_nothing_is_judged(folder: RunFolder) -> None:
    (folder.entry("log_prob") / "golden.safetensors").unlink()
    with pytest.raises(ExportError, match="no parity cases") as caught:
        optimize.run(recipe(), folder)
    assert "toolkit export" in caught.value.next_step


def test_before_export_there_is_nothing_to_optimize(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'export' has not run"):
        optimize.run(recipe(), RunFolder(tmp_path))


def test_progress_names_the_entries(folder: RunFolder, verdicts) -> None:
    verdicts()
    seen: list[str] = []
    optimize.run(recipe(variants=["fp32"], passes=["power"]), folder, progress=seen.append)
    assert seen == ["log_prob"]


def test_a_damaged_ledger_says_how_to_make_a_new_one(folder: RunFolder) -> None:
    (folder.path / "ledger.json").write_text("{")
    with pytest.raises(UsageError, match="ledger cannot be read") as caught:
        Ledger.load(folder)
    assert "toolkit optimize" in caught.value.next_step
