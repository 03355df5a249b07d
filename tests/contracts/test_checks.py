"""Every check passes on a good artifact and fails on a planted fault."""

from __future__ import annotations

import contextlib
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


def forgetful(_: dict, outputs: dict) -> dict:
    """Let every state be as it was before the first step."""
    first, *states = outputs
    return {first: outputs[first], **{name: np.zeros_like(outputs[name]) for name in states}}


def static_file(subject: Subject) -> Subject:
    model = onnx.load(subject.path)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 3
    path = subject.path.with_name("static-planted.onnx")
    onnx.save(model, path)
    return dataclasses.replace(subject, path=path)


def flipped(_: dict, outputs: dict) -> dict:
    return {**outputs, "log_det": -outputs["log_det"]}


def wrong_at(value: float, change: float = 0.01) -> Fault:
    """Return a fault where an element is just this number, its sign included."""

    def apply(feeds: dict, outputs: dict) -> dict:
        x = next(iter(feeds.values()))
        same = (x == np.float32(value)) & (np.signbit(x) == np.signbit(value))
        rows = same.reshape(len(x), -1).any(1)
        return {
            name: array + np.float32(change) * rows.reshape(-1, *[1] * (array.ndim - 1))
            if np.isfinite(change)
            else np.where(rows.reshape(-1, *[1] * (array.ndim - 1)), np.float32(change), array)
            for name, array in outputs.items()
        }

    return spoil(apply)


def at_other_lengths(change: Callable[[dict, dict], dict]) -> Fault:
    """Return a fault that shows only where no other check looks."""

    def apply(subject: Subject) -> Subject:
        (usual,) = {case.inputs["x"].shape[1] for case in subject.cases if case.check == "parity"}

        def spoiled(feeds: dict, outputs: dict) -> dict:
            return outputs if feeds["x"].shape[1] == usual else change(feeds, outputs)

        return spoil(spoiled)(subject)

    return apply


def cut(_: dict, outputs: dict) -> dict:
    return {name: array[:, :-1] for name, array in outputs.items()}


def density_of(fault: Fault) -> Fault:
    """Return a fault of the density graph, which another entry is judged with."""

    def apply(subject: Subject) -> Subject:
        run = fault(dataclasses.replace(subject, run=subject.sibling("log_prob"))).run
        return dataclasses.replace(subject, sibling=lambda name: {"log_prob": run}.get(name))

    return apply


EDGES = [
    wrong_at(1.0),
    wrong_at(-5.0),
    wrong_at(float(np.nextafter(np.float32(2), np.float32(0)))),
    wrong_at(0.75),
    wrong_at(-0.0),
    wrong_at(1e-40, np.nan),
    wrong_at(-3.0, np.inf),
]
PLANTED: dict[str, list[tuple[str, str, list[Fault]]]] = {
    "antisymmetry": [
        ("realnvp", "inverse", [spoil(flipped), spoil(shifted), density_of(spoil(shifted))])
    ],
    "batch": [("realnvp", "log_prob", [spoil(wrong_at_seven)])],
    "bin_edges": [("realnvp", "log_prob", EDGES), ("realnvp", "inverse", EDGES)],
    "causality": [("pixelcnn", "sample.logits", [spoil(leaking), spoil(blind)])],
    "dynamic": [("realnvp", "log_prob", [static_file])],
    "finite": [("realnvp", "log_prob", [spoil(one_nan)])],
    "integral": [("realnvp", "log_prob", [spoil(shifted), spoil(one_nan)])],
    "log_det": [
        ("realnvp", "log_prob", [spoil(shifted)]),
        ("realnvp", "inverse", [spoil(flipped), spoil(shifted)]),
    ],
    "nats": [
        ("realnvp", "log_prob", [spoil(scaled), spoil(shifted), spoil(one_nan)]),
        ("realnvp", "inverse", [spoil(flipped)]),
    ],
    "parity": [("realnvp", "log_prob", [spoil(scaled), spoil(shifted), spoil(one_nan)])],
    "round_trip": [("realnvp", "inverse", [spoil(scaled), density_of(spoil(shifted))])],
    "sizes": [("rnn", "forward", [at_other_lengths(shifted), at_other_lengths(cut)])],
    "stepwise": [("wavenet", "sample.step", [spoil(shifted), spoil(forgetful), spoil(blind)])],
    "second_call": [("realnvp", "log_prob", [spoil(Drifting())])],
}


@pytest.fixture
def subject_of(finished_run: Callable[[str, str], RunFolder], request: pytest.FixtureRequest):
    def make(recipe: str, entry: str) -> Subject:
        folder = finished_run(recipe, "export")
        detail = folder.stage("export")["entries"][entry]
        signature = Signature.from_dict(detail["signature"])
        stack = contextlib.ExitStack()
        request.addfinalizer(stack.close)

        def run_of(name: str) -> Callable | None:
            other = folder.stage("export")["entries"].get(name)
            return other and stack.enter_context(
                opened(folder.path / other["file"], Signature.from_dict(other["signature"]))
            )

        return Subject(
            signature=signature,
            variant="exported",
            backend="onnxruntime",
            path=folder.path / detail["file"],
            run=run_of(entry),
            cases=load_cases(folder.entry(entry) / "golden.safetensors"),
            sibling=run_of,
        )

    return make


@pytest.mark.parametrize("name", checks.names())
def test_passes_on_a_good_artifact_and_fails_on_a_planted_fault(name: str, subject_of) -> None:
    assert name in PLANTED, f"plant a fault for the check {name!r} here"
    for recipe, entry, faults in PLANTED[name]:
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
    subject = subject_of("pixelcnn", "sample.generate")
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


def test_batches_are_cut_from_real_data_wherever_these_stand(subject_of) -> None:
    subject = subject_of("realnvp", "log_prob")
    wrong = [
        dataclasses.replace(case, oracle={k: a + 1 for k, a in case.oracle.items()})
        for case in subject.cases
        if (case.check, case.name) == ("parity", "edges")
    ]
    assert wrong
    subject = dataclasses.replace(subject, cases=[*wrong, *subject.cases])
    assert checks.load("batch").judge(subject).status == "ok"


def test_a_budget_holds_for_every_batch_size(subject_of) -> None:
    subject = spoil(shifted)(subject_of("realnvp", "log_prob"))
    outputs = [dataclasses.replace(spec, unit="absolute") for spec in subject.signature.outputs]
    subject = dataclasses.replace(
        subject, signature=dataclasses.replace(subject.signature, outputs=outputs)
    )
    for budget, status in ((0.02, "ok"), (0.005, "failed")):
        found = checks.load("batch").judge(
            dataclasses.replace(subject, budget={"absolute": budget})
        )
        assert (found.status, found.limit) == (status, budget)


@pytest.mark.parametrize(("worst_when", "status"), [("always", "ok"), ("alone", "failed")])
def test_a_mean_over_many_does_not_bind_one_sample_that_is_worse_among_all_too(
    worst_when, status, subject_of
) -> None:
    subject = subject_of("realnvp", "log_prob")
    outputs = [dataclasses.replace(spec, unit="psnr") for spec in subject.signature.outputs]

    def spoiled(_: dict, outputs: dict) -> dict:
        values = outputs["log_prob"].copy()
        if worst_when == "always" or len(values) < 7:
            values[0] += 1.0
        return {"log_prob": values}

    subject = dataclasses.replace(
        spoil(spoiled)(subject),
        signature=dataclasses.replace(subject.signature, outputs=outputs),
        budget={"psnr": 25.0},
    )
    assert checks.load("batch").judge(subject).status == status


def test_an_exact_inverse_passes_where_the_codes_have_lost_more_than_eager(subject_of) -> None:
    subject = subject_of("realnvp", "inverse")
    check = checks.load("round_trip")
    (case,) = [case for case in subject.cases if case.check == "round_trip"]
    start = (case.oracle["x"] + 1e-3).astype(np.float32)
    extra = {**case.extra, "data.x": start, "back.x": start}
    rounded = dataclasses.replace(subject, cases=[dataclasses.replace(case, extra=extra)])
    for change, status in ((0.0, "ok"), (2e-3, "failed")):
        given = {k: (array - change).astype(np.float32) for k, array in case.oracle.items()}
        assert check.judge(spoil(lambda *_, given=given: given)(rounded)).status == status


def test_the_round_trip_judges_the_density_too(subject_of) -> None:
    subject = subject_of("realnvp", "inverse")
    good = checks.load("round_trip").judge(subject)
    assert good.status == "ok", good
    assert good.detail["drift"]
    alone = dataclasses.replace(subject, sibling=lambda _: None)
    assert not checks.load("round_trip").judge(alone).detail["drift"]


def test_antisymmetry_without_a_density_graph_is_skipped(subject_of) -> None:
    alone = dataclasses.replace(subject_of("realnvp", "inverse"), sibling=lambda _: None)
    found = checks.load("antisymmetry").judge(alone)
    assert (found.status, found.reason) == ("skipped", "there is no graph of log_prob")


def test_an_error_of_every_sample_shows_in_the_mean_below_the_limit_of_the_largest(
    subject_of,
) -> None:
    subject = subject_of("realnvp", "log_prob")
    row = checks.load("nats").judge(subject).detail["rows"][0]
    oracle = next(c.oracle for c in subject.cases if (c.check, c.name) == ("parity", "real"))
    change = (row["mean_limit"] + row["limit"]) / 2
    biased = {name: array + change for name, array in oracle.items()}
    bad = checks.load("nats").judge(dataclasses.replace(subject, run=lambda _: biased))
    assert bad.value < bad.limit
    assert bad.status == "failed"


@pytest.mark.parametrize("name", ["antisymmetry", "integral", "log_det", "nats"])
def test_a_budget_in_nats_replaces_the_limit_of_flow_checks(name: str, subject_of) -> None:
    if name == "antisymmetry":
        shift = density_of(spoil(shifted))(subject_of("realnvp", "inverse"))
    else:
        shift = spoil(shifted)(subject_of("realnvp", "log_prob"))
    check = checks.load(name)
    assert check.judge(dataclasses.replace(shift, budget={"nats": 0.02})).status == "ok"
    assert check.judge(dataclasses.replace(shift, budget={"nats": 0.004})).status == "failed"


def test_under_a_budget_edges_are_asked_for_numbers_only(subject_of) -> None:
    subject = dataclasses.replace(subject_of("realnvp", "log_prob"), budget={"nats": 0.02})
    check = checks.load("bin_edges")
    assert check.judge(wrong_at(1.0)(subject)).status == "ok"
    assert check.judge(wrong_at(1.0, np.nan)(subject)).status == "failed"
