"""`load()`: calls, errors, variants, run folders."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from toolkit.core.errors import IntegrityError, MissingError, UsageError
from toolkit.core.folder import RunFolder
from toolkit.runtime import load

X = np.random.default_rng(5).normal(size=(3, 4)).astype(np.float32)


def test_calls_by_name_position_and_feeds_agree(bundle_zip: Path) -> None:
    with load(bundle_zip) as session:
        assert session.entries == ("log_prob", "sample.generate")
        by_name = session.log_prob(x=X)
        assert by_name.shape == (3,)
        assert np.array_equal(by_name, session["log_prob"](X))
        assert np.array_equal(by_name, session.log_prob.run({"x": X})["log_prob"])


def test_run_folder_and_bundle_agree(bundle_zip: Path, mini_run: RunFolder) -> None:
    for variant in ("fp32", "fp16"):
        bundled = load(bundle_zip, variant=variant).log_prob(X)
        assert np.array_equal(bundled, load(mini_run.path, variant=variant).log_prob(X))
    assert load(mini_run.path, variant="exported").entries == ("log_prob", "sample.generate")


def test_noise_is_drawn_by_its_law_and_seed(bundle_zip: Path) -> None:
    call = load(bundle_zip)["sample.generate"]
    noise = call.noise(batch=6, seed=1)
    assert noise["noise"].shape == (3, 6, 5)
    assert noise["noise"].dtype == np.float32
    assert np.array_equal(noise["noise"], call.noise(batch=6, seed=1)["noise"])
    assert not np.array_equal(noise["noise"], call.noise(batch=6, seed=2)["noise"])
    assert call(**noise).shape == (6, 3)
    with pytest.raises(UsageError, match="'batch' is not given"):
        call.noise()


@pytest.mark.parametrize(
    ("feeds", "reason"),
    [
        ({}, "misses the input 'x'"),
        ({"X": X}, "did you mean"),
        ({"x": X, "y": X}, "has no input 'y'"),
        ({"x": X.astype(np.float64)}, r"x\.astype\('float32'\)"),
        ({"x": X[0]}, "shape"),
        ({"x": X[:, :3]}, "the size is 3, the graph takes 4"),
        ({"x": X[:0]}, "at least 1"),
    ],
)
def test_wrong_inputs_are_named(feeds: dict[str, Any], reason: str, bundle_zip: Path) -> None:
    session = load(bundle_zip)
    with pytest.raises(UsageError) as caught:
        session.log_prob(**{name.replace("X", "xx"): value for name, value in feeds.items()})
    assert re.search(reason, str(caught.value))


def test_wrong_names_are_errors(bundle_zip: Path) -> None:
    session = load(bundle_zip)
    with pytest.raises(AttributeError, match="log_prbo"):
        session.log_prbo(X)
    with pytest.raises(UsageError, match="did you mean 'log_prob'"):
        session["log_prbo"]
    assert not hasattr(session, "absent")
    assert "log_prob" in dir(session)
    with pytest.raises(UsageError, match="int8"):
        load(bundle_zip, variant="int8")
    with pytest.raises(UsageError, match="threads"):
        load(bundle_zip, threads=-1)
    with pytest.raises(MissingError, match="TensorrtExecutionProvider"):
        load(bundle_zip, providers=["tensorrt"])


def test_an_entry_without_the_variant_is_left_out(bundle_zip: Path) -> None:
    assert load(bundle_zip, variant="fp16").entries == ("log_prob",)


def test_nothing_is_left_in_the_temporary_folder(
    bundle_zip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    session = load(bundle_zip)
    session.log_prob(X)
    assert list(tmp_path.iterdir()) == []
    session.close()
    assert session.log_prob(X).shape == (3,)


def test_a_run_folder_without_exports_is_a_usage_error(tmp_path: Path) -> None:
    RunFolder(tmp_path).record("train", {"status": "ok", "reason": "", "result": {}})
    with pytest.raises(UsageError, match="nothing is exported"):
        load(tmp_path)


def test_a_run_folder_that_points_outside_is_refused(mini_run: RunFolder) -> None:
    text = mini_run.manifest_path.read_text().replace("entries/log_prob/fp32.onnx", "../x.onnx")
    mini_run.manifest_path.write_text(text)
    with pytest.raises(IntegrityError, match="may not stand"):
        load(mini_run.path)


def test_a_run_folder_with_a_graph_gone_says_how_to_make_it(mini_run: RunFolder) -> None:
    (mini_run.path / "entries/log_prob/fp32.onnx").unlink()
    with pytest.raises(UsageError, match="toolkit run miniature"):
        load(mini_run.path).log_prob(X)


def test_a_signature_that_is_malformed_is_refused(mini_run: RunFolder) -> None:
    table = json.loads(mini_run.manifest_path.read_text())
    signature = table["stages"]["export"]["result"]["entries"]["log_prob"]["signature"]
    signature["inputs"][0]["dtype"] = "object"
    mini_run.manifest_path.write_text(json.dumps(table))
    with pytest.raises(IntegrityError, match="malformed"):
        load(mini_run.path)
