"""The self-test passes on a good bundle and fails on every planted fault."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from safetensors.numpy import load_file, save

from toolkit.core.errors import IntegrityError, UsageError
from toolkit.core.folder import RunFolder
from toolkit.runtime import selftest
from toolkit.runtime.limits import beyond_policy, meets

MODEL = "entries/log_prob/fp32.onnx"
GOLDEN = "entries/log_prob/golden.safetensors"


def test_a_good_bundle_passes(bundle_zip: Path) -> None:
    results = selftest(bundle_zip)
    assert {result.check for result in results} == {"checksums", "golden", "latency"}
    assert all(result.status == "ok" for result in results)
    golden = {(r.entry, r.variant, r.output) for r in results if r.check == "golden"}
    assert golden == {
        ("log_prob", "fp16", "log_prob"),
        ("log_prob", "fp32", "log_prob"),
        ("sample.generate", "fp32", "sample"),
    }


@pytest.mark.parametrize("scale", [1.001, np.nan, np.inf])
def test_a_wrong_graph_fails(scale: float, unpacked: Path, reseal: Any) -> None:
    model = onnx.load(unpacked / MODEL)
    weight = numpy_helper.to_array(model.graph.initializer[0])
    model.graph.initializer[0].CopyFrom(
        numpy_helper.from_array((weight * np.float32(scale)).astype(np.float32), "w")
    )
    reseal(MODEL, model.SerializeToString())
    failed = [result for result in selftest(unpacked) if result.status == "failed"]
    assert [(result.entry, result.variant) for result in failed] == [("log_prob", "fp32")]
    assert "beyond the limit" in failed[0].reason


@pytest.fixture
def replant(unpacked: Path, reseal: Any) -> Any:
    """Replace or delete golden arrays by role."""

    def run(**changes: np.ndarray | None) -> None:
        tensors = load_file(unpacked / GOLDEN)
        for role, array in changes.items():
            key = next(name for name in tensors if f"/{role}/" in name)
            if array is None:
                del tensors[key]
            else:
                tensors[key] = array
        reseal(GOLDEN, save(tensors))

    return run


@pytest.mark.parametrize("oracle", [None, np.zeros(0)])
def test_97_without_golden_outputs_nothing_is_verified(
    oracle: np.ndarray | None, unpacked: Path, replant: Any
) -> None:
    replant(oracle=oracle)
    failed = [result for result in selftest(unpacked) if result.status == "failed"]
    assert len(failed) == 2
    assert all("nothing verified" in result.reason for result in failed)


def test_97_without_samples_it_is_refused(unpacked: Path, replant: Any) -> None:
    replant(inputs=np.zeros((0, 4), np.float32), oracle=np.zeros(0))
    with pytest.raises(IntegrityError, match="golden inputs do not fit"):
        selftest(unpacked)


@pytest.mark.parametrize(
    "inputs",
    [np.zeros((16, 4)), np.zeros((16, 5), np.float32), np.zeros(16, np.float32), None],
)
def test_100_golden_inputs_of_another_kind_are_refused(
    inputs: np.ndarray | None, unpacked: Path, replant: Any
) -> None:
    replant(inputs=inputs)
    with pytest.raises(IntegrityError, match="golden inputs do not fit"):
        selftest(unpacked)


@pytest.mark.parametrize("limit", [1e9, -1.0, 10.0])
def test_96_a_limit_beyond_policy_is_refused(limit: float, unpacked: Path, edit: Any) -> None:
    def change(table: dict[str, Any]) -> None:
        table["entries"]["log_prob"]["variants"]["fp32"]["limits"]["log_prob"]["limit"] = limit

    edit(change)
    with pytest.raises(IntegrityError, match=r"above policy|negative"):
        selftest(unpacked)


def test_a_graph_of_another_signature_is_refused(unpacked: Path, reseal: Any) -> None:
    model = onnx.load(unpacked / "entries/sample.generate/fp32.onnx")
    reseal(MODEL, model.SerializeToString())
    with pytest.raises(IntegrityError, match="the graph's inputs are"):
        selftest(unpacked)


def test_a_run_folder_is_not_a_bundle(mini_run: RunFolder) -> None:
    with pytest.raises(UsageError, match="not a bundle"):
        selftest(mini_run.path)


@pytest.mark.parametrize(
    ("unit", "limit", "beyond"),
    [
        ("absolute", 0.05, False),
        ("absolute", 0.5, True),
        ("nats", 1.0, False),
        ("nats", 6.0, True),
        ("accuracy", 1.0, False),
        ("accuracy", 50.0, True),
        ("psnr", 40.0, False),
        ("psnr", 3.0, True),
        ("index", 0.0, False),
        ("index", 0.5, True),
        ("absolute", math.nan, True),
        ("absolute", math.inf, True),
    ],
)
def test_policy_bounds_every_unit(unit: str, limit: float, beyond: bool) -> None:
    assert beyond_policy(unit, limit, np.ones(3)) is beyond


@pytest.mark.parametrize(
    ("unit", "candidate", "good"),
    [
        ("absolute", [[1.0, 0.0]], True),
        ("absolute", [[np.nan, 0.0]], False),
        ("absolute", [[np.inf, 0.0]], False),
        ("absolute", [[1.0]], False),
        ("accuracy", [[2.0, 0.0]], True),
        ("accuracy", [[2.0]], False),
        ("accuracy", [[np.inf, 0.0]], False),
        ("psnr", [[1.0, 0.0]], True),
        ("psnr", [[1.0]], False),
    ],
)
def test_meets(unit: str, candidate: list[list[float]], good: bool) -> None:
    oracle = np.array([[1.0, 0.0]])
    limit = 20.0 if unit == "psnr" else 0.1
    assert meets(np.array(candidate, np.float32), oracle, unit=unit, limit=limit)[0] is good
