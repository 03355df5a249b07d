"""Every check passes on a good artifact and fails on a planted fault."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import onnx
import pytest

from toolkit.core.case import load_cases
from toolkit.core.folder import RunFolder
from toolkit.core.protocols import Subject
from toolkit.core.registry import checks
from toolkit.core.signature import Signature
from toolkit.stages._open import opened

Fault = Callable[[Subject], Subject]


def spoil(change: Callable[[dict, dict], dict]) -> Fault:
    """Return a fault that changes what the variant answers."""

    def apply(subject: Subject) -> Subject:
        return dataclasses.replace(
            subject, run=lambda feeds: change(feeds, dict(subject.run(feeds)))
        )

    return apply


def scaled(_: dict, outputs: dict) -> dict:
    return {name: array * array.dtype.type(1.01) for name, array in outputs.items()}


def shifted(_: dict, outputs: dict) -> dict:
    return {name: array + array.dtype.type(0.01) for name, array in outputs.items()}


def one_nan(_: dict, outputs: dict) -> dict:
    spoiled = {name: array.copy() for name, array in outputs.items()}
    next(iter(spoiled.values())).flat[0] = np.nan
    return spoiled


def wrong_at_seven(feeds: dict, outputs: dict) -> dict:
    size = len(next(iter(feeds.values())))
    return shifted(feeds, outputs) if size == 7 else outputs


class Drifting:
    """Answer a little more at every call, as a layer that keeps statistics does."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, _: dict, outputs: dict) -> dict:
        self.calls += 1
        return {name: array + np.float32(1e-3 * self.calls) for name, array in outputs.items()}


def leaking(feeds: dict, outputs: dict) -> dict:
    """Let every output see the last input."""
    last = next(iter(feeds.values())).reshape(len(next(iter(outputs.values()))), -1)[:, -1]
    return {
        name: array + last.reshape(-1, *([1] * (array.ndim - 1))) for name, array in outputs.items()
    }


def blind(_: dict, outputs: dict) -> dict:
    """Answer the same whatever the input: nothing leaks, but nothing is seen either."""
    return {name: np.zeros_like(array) for name, array in outputs.items()}


def static_file(subject: Subject) -> Subject:
    model = onnx.load(subject.path)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 3
    path = subject.path.with_name("static-planted.onnx")
    onnx.save(model, path)
    return dataclasses.replace(subject, path=path)


PLANTED: dict[str, tuple[str, str, list[Fault]]] = {
    "batch": ("realnvp", "log_prob", [spoil(wrong_at_seven)]),
    "causality": ("pixelcnn", "logits", [spoil(leaking), spoil(blind)]),
    "dynamic": ("realnvp", "log_prob", [static_file]),
    "finite": ("realnvp", "log_prob", [spoil(one_nan)]),
    "log_det": ("realnvp", "log_prob", [spoil(shifted)]),
    "parity": ("realnvp", "log_prob", [spoil(scaled), spoil(shifted), spoil(one_nan)]),
    "round_trip": ("realnvp", "inverse", [spoil(scaled)]),
    "second_call": ("realnvp", "log_prob", [spoil(Drifting())]),
}


@pytest.fixture
def subject_of(finished_run: Callable[[str, str], RunFolder], request: pytest.FixtureRequest):
    def make(recipe: str, entry: str) -> Subject:
        folder = finished_run(recipe, "export")
        detail = folder.stage("export")["entries"][entry]
        signature = Signature.from_dict(detail["signature"])
        context = opened(folder.path / detail["file"], signature)
        run = context.__enter__()
        request.addfinalizer(lambda: context.__exit__(None, None, None))
        return Subject(
            signature=signature,
            variant="exported",
            backend="onnxruntime",
            path=folder.path / detail["file"],
            run=run,
            cases=load_cases(folder.entry(entry) / "golden.safetensors"),
            sibling=lambda _: None,
        )

    return make


@pytest.mark.parametrize("name", checks.names())
def test_passes_on_a_good_artifact_and_fails_on_a_planted_fault(name: str, subject_of) -> None:
    assert name in PLANTED, f"plant a fault for the check {name!r} here"
    recipe, entry, faults = PLANTED[name]
    check, subject = checks.load(name), subject_of(recipe, entry)
    good = check.judge(subject)
    assert good.status == "ok", good.reason
    for fault in faults:
        bad = check.judge(fault(subject))
        assert bad.status == "failed", bad
        assert bad.reason


@pytest.mark.parametrize("name", ["parity", "finite", "second_call"])
def test_nothing_verified_is_a_failure(name: str, subject_of) -> None:
    empty = dataclasses.replace(subject_of("realnvp", "log_prob"), cases=[])
    assert checks.load(name).judge(empty).status == "failed"


def test_parity_has_over_a_thousand_real_samples(subject_of) -> None:
    subject = subject_of("realnvp", "log_prob")
    sizes = {c.name: len(c.inputs["x"]) for c in subject.cases if c.check == "parity"}
    assert sizes["real"] >= 1024
    assert set(sizes) == {"real", "noise", "tails", "edges"}


def test_a_budget_replaces_the_formula(subject_of) -> None:
    subject = subject_of("realnvp", "log_prob")
    loose = dataclasses.replace(spoil(shifted)(subject), budget={"nats": 0.02})
    finding = checks.load("parity").judge(loose)
    assert (finding.status, finding.unit, finding.limit) == ("ok", "nats", 0.02)
    tight = dataclasses.replace(loose, budget={"nats": 0.005})
    assert checks.load("parity").judge(tight).status == "failed"


def test_every_batch_size_runs_whole_even_where_the_case_is_smaller(subject_of) -> None:
    subject = subject_of("pixelcnn", "sample")
    seen = []

    def run(feeds: dict) -> dict:
        seen.append(feeds["noise"].shape[1])
        return subject.run(feeds)

    assert checks.load("batch").judge(dataclasses.replace(subject, run=run)).status == "ok"
    assert seen == [1, 2, 7, 64]


def test_batch_sizes_stay_within_the_entry_s_own_range(subject_of) -> None:
    subject = subject_of("realnvp", "log_prob")
    signature = dataclasses.replace(subject.signature, ranges={"batch": (2, 8, 32, 2)})
    found = checks.load("batch").judge(dataclasses.replace(subject, signature=signature))
    assert {row["case"] for row in found.detail["rows"]} == {"batch 2"}


def test_the_round_trip_judges_the_density_too(subject_of) -> None:
    subject, density = subject_of("realnvp", "inverse"), subject_of("realnvp", "log_prob")
    both = dataclasses.replace(subject, sibling=lambda _: density.run)
    good = checks.load("round_trip").judge(both)
    assert good.status == "ok", good
    assert good.detail["drift"]
    drifting = spoil(shifted)(density)
    bad = checks.load("round_trip").judge(
        dataclasses.replace(subject, sibling=lambda _: drifting.run)
    )
    assert bad.status == "failed"
