"""Checks of flows of any library: what they prepare from entries alone, and which models fail."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from toolkit.capture.oracle import Oracle
from toolkit.core.case import Case, load_cases, save_cases
from toolkit.core.entry import Entry, Input
from toolkit.core.outcome import Finding
from toolkit.core.protocols import Source, Subject
from toolkit.core.registry import checks
from toolkit.core.signature import Signature, TensorSpec

NOISE = {"kind": "noise", "law": "normal"}


class Squashed(nn.Module):
    """`z = shift + x + ½·tanh(x)·given`, of a library that knows neither entries nor families."""

    def __init__(self, width: int = 2, *, given: bool = False) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.linspace(-0.5, 0.5, width))
        self.given = given
        self.make = functools.partial(dict, tail_bound=2.5)

    def encode(self, x: Tensor, given: Tensor | None = None) -> tuple[Tensor, Tensor]:
        bend = 0.5 if given is None else 0.5 * torch.sigmoid(given)
        slope = 1 + bend * (1 - torch.tanh(x) ** 2)
        return self.shift + x + bend * torch.tanh(x), slope.log().sum(1)


def log_prob(model: Squashed, x: Tensor, given: Tensor | None = None) -> Tensor:
    z, log_det = model.encode(x, given)
    return -0.5 * (z**2 + math.log(2 * math.pi)).sum(1) + log_det


def inverse(model: Squashed, z: Tensor, given: Tensor | None = None) -> tuple[Tensor, Tensor]:
    x = z
    for _ in range(12):
        value, _ = model.encode(x, given)
        x = (
            x
            - (value - z)
            / torch.autograd.functional.jvp(
                lambda x: model.encode(x, given)[0], x, torch.ones_like(x)
            )[1]
        )
    return x, -model.encode(x, given)[1]


def sample(model: Squashed, noise: Tensor, given: Tensor | None = None) -> Tensor:
    return inverse(model, noise, given)[0]


def forward(model: Squashed, x: Tensor, given: Tensor | None = None) -> tuple[Tensor, Tensor]:
    return model.encode(x, given)


def entries_of(model: Squashed, *, latents: dict = NOISE, forth: bool = False) -> list[Entry]:
    width = len(model.shift)
    draws = torch.Generator().manual_seed(0)

    def item(name: str, size: int = width, **arguments) -> Input:
        value = torch.randn(16, size, generator=draws)
        return Input(name, value, dims=("batch", None), **arguments)

    given = [item("given", 1, kind="context")] if model.given else []
    made = [
        Entry("log_prob", log_prob, [item("x"), *given], ["log_prob"], units={"log_prob": "nats"}),
        Entry("inverse", inverse, [item("z", **latents), *given], ["x", "log_det"]),
        Entry("sample", sample, [item("noise", **NOISE), *given], ["x"]),
    ]
    if forth:
        made.append(Entry("forward", forward, [item("x"), *given], ["z", "log_det"]))
    return [dataclasses.replace(entry, family="flow") for entry in made]


def tensors_of(entry: Entry) -> Signature:
    return Signature(
        entry.name,
        entry.family,
        tuple(TensorSpec(i.name, i.dtype, ("batch", i.shape[1]), i.kind) for i in entry.inputs),
        tuple(
            TensorSpec(name, "float32", ("batch",), unit=entry.units.get(name, "absolute"))
            for name in entry.outputs
        ),
    )


@pytest.fixture
def ask(tmp_path: Path) -> Callable[..., Finding | None]:
    """Return a function that lets a check prepare, and judge eager itself from the file alone."""

    def run_of(model: nn.Module, entry: Entry) -> Callable[[dict], dict]:
        def run(feeds: dict) -> dict:
            assert set(feeds) == {item.name for item in entry.inputs}
            tensors = [torch.from_numpy(np.array(feeds[item.name])) for item in entry.inputs]
            with torch.no_grad():
                result = entry.call(model, *tensors)
            values = result if isinstance(result, tuple) else (result,)
            return dict(zip(entry.outputs, (value.numpy() for value in values), strict=True))

        return run

    def judge(
        check: str,
        model: nn.Module,
        entries: list[Entry],
        name: str,
        *,
        graphs: list[Entry] | None = None,
    ) -> Finding | None:
        known = {entry.name: entry for entry in graphs or entries}
        cases = prepare(check, model, entries, name)
        if cases:
            save_cases(tmp_path / "golden.safetensors", cases)
            cases = load_cases(tmp_path / "golden.safetensors")
        return checks.load(check).judge(
            Subject(
                signature=tensors_of(known[name]),
                variant="exported",
                backend="eager",
                path=tmp_path / "x.onnx",
                run=run_of(model, known[name]),
                cases=cases,
                sibling=lambda other: run_of(model, known[other]) if other in known else None,
            )
        )

    return judge


def prepare(
    check: str, model: nn.Module, entries: list[Entry], name: str, *, samples: int = 64
) -> list[Case]:
    entry = next(item for item in entries if item.name == name)
    oracle = Oracle(model, entry, entry.outputs)
    source = Source(
        entry=entry,
        signature=tensors_of(entry),
        model=model,
        data=None,
        samples=samples,
        seed=0,
        answer=oracle.answer,
        entries=entries,
        exact=oracle.exact,
        eager=oracle.eager,
    )
    return list(checks.load(check).prepare(source))


ASKED = {
    "antisymmetry": ("inverse",),
    "bin_edges": ("log_prob", "inverse"),
    "integral": ("log_prob",),
    "log_det": ("inverse",),
    "round_trip": (),
}


@pytest.mark.parametrize("given", [False, True], ids=["plain", "conditional"])
@pytest.mark.parametrize("check", ASKED)
def test_a_healthy_flow_of_any_library_passes(check: str, given: bool, ask) -> None:
    model = Squashed(given=given)
    entries = entries_of(model)
    answers = {entry.name: ask(check, model, entries, entry.name) for entry in entries}
    assert tuple(name for name, found in answers.items() if found) == ASKED[check]
    assert all(found.status == "ok" for found in answers.values() if found), answers


@pytest.mark.parametrize("given", [False, True], ids=["plain", "conditional"])
def test_an_entry_of_the_other_direction_is_asked_too(given: bool, ask) -> None:
    model = Squashed(given=given)
    entries = entries_of(model, forth=True)
    assert ask("log_det", model, entries, "forward").status == "ok"
    assert ask("log_det", model, entries, "log_prob").status == "ok"
    found = ask("round_trip", model, entries, "inverse")
    assert (found.status, len(found.detail["codes"])) == ("ok", 1)
    assert {
        row["case"] for row in ask("antisymmetry", model, entries, "inverse").detail["rows"]
    } == {
        "noise",
        "latent",
    }


@pytest.mark.parametrize("check", ["antisymmetry", "bin_edges", "round_trip"])
def test_a_case_of_a_large_model_holds_as_few_samples_as_were_asked_for(check: str) -> None:
    model = Squashed(given=False)
    entries = entries_of(model, forth=True)
    cases = prepare(check, model, entries, "inverse", samples=12)
    # Six samples an edge: below, at and above it, in every element and in one.
    most = 12 // 2 * 6 if check == "bin_edges" else 12
    assert max(len(case.eager["log_det"]) for case in cases) == most


def broken(entries: list[Entry], name: str, call: Callable) -> list[Entry]:
    return [dataclasses.replace(e, call=call) if e.name == name else e for e in entries]


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("forward", lambda m, x: (forward(m, x)[0] + 1e-3, forward(m, x)[1])),
        ("inverse", lambda m, z: (inverse(m, z)[0] + 1e-3, inverse(m, z)[1])),
        ("log_prob", lambda m, x: log_prob(m, x) + 1e-3),
    ],
)
def test_a_graph_of_either_direction_that_is_wrong_fails_the_round_trip(name, call, ask) -> None:
    model = Squashed()
    entries = entries_of(model, forth=True)
    graphs = broken(entries, name, call)
    assert ask("round_trip", model, entries, "inverse", graphs=graphs).status == "failed"


def test_a_model_whose_own_log_det_has_the_wrong_sign_fails(ask) -> None:
    model = Squashed()
    wrong = broken(entries_of(model), "inverse", lambda m, z: (inverse(m, z)[0], -inverse(m, z)[1]))
    assert ask("log_det", model, wrong, "inverse").status == "failed"
    found = ask("antisymmetry", model, wrong, "inverse")
    assert found.status == "failed"
    assert "contradicts itself" in found.reason


def test_a_base_of_the_model_s_own_is_taken_as_the_oracle_has_it(ask) -> None:
    model = Squashed()
    entries = entries_of(model, latents={})
    assert ask("antisymmetry", model, entries, "inverse").status == "ok"


def test_a_model_that_is_no_density_fails_the_integral(ask) -> None:
    model = Squashed()
    entries = broken(entries_of(model), "log_prob", lambda m, x: log_prob(m, x) + 0.01)
    found = ask("integral", model, entries, "log_prob")
    assert found.status == "failed"
    assert "is not one" in found.reason
    assert found.detail["integral"] == pytest.approx(math.exp(0.01), abs=1e-4)


@pytest.mark.parametrize("width", [1, 2])
def test_the_quadrature_is_exact_on_the_line_and_the_plane(width: int, ask) -> None:
    model = Squashed(width)
    found = ask("integral", model, entries_of(model), "log_prob")
    assert found.status == "ok"
    assert abs(found.detail["integral"] - 1) <= found.detail["quadrature_error"] < 1e-3


def test_three_features_have_no_integral() -> None:
    model = Squashed(3)
    assert prepare("integral", model, entries_of(model), "log_prob") == []


@pytest.mark.parametrize(
    ("low", "high", "density"),
    [
        (0, 1, lambda x: torch.log(2 * x)),
        (0, None, lambda x: -x),
        (None, 2.0, lambda x: x - 2),
    ],
    ids=["triangle", "above", "below"],
)
def test_a_bounded_domain_is_integrated_within_its_bounds(low, high, density, ask) -> None:
    model = nn.Identity()
    value = torch.rand(16, 1) + (0 if high != 2.0 else 0.9)
    x = Input("x", value, dims=("batch", None), low=low, high=high)
    call = lambda _, x: density(x).sum(1)  # noqa: E731
    entry = Entry("log_prob", call, [x], ["log_prob"], family="flow")
    (case,) = prepare("integral", model, [entry], "log_prob")
    grid = case.inputs["x"]
    assert low is None or (grid >= low).all()
    assert high is None or (grid <= high).all()
    found = ask("integral", model, [entry], "log_prob")
    assert found.status == "ok", found.reason
    assert found.detail["integral"] == pytest.approx(1, abs=0.02)


def test_edges_are_the_model_s_bounds_with_their_neighbours_and_both_zeros() -> None:
    model = Squashed()
    cases = {c.name: c for c in prepare("bin_edges", model, entries_of(model), "log_prob")}
    tails, zeros = (cases[name].inputs["x"] for name in ("tails", "zeros"))
    for bound in (np.float32(2.5), np.float32(-2.5)):
        for value in (bound, *(np.nextafter(bound, np.float32(to)) for to in (-9, 9))):
            assert (tails == value).all(1).any()
            assert ((tails == value).sum(1) == 1).any()
    assert {bool(sign) for sign in np.signbit(zeros[zeros == 0])} == {True, False}
    assert ((np.abs(zeros) > 0) & (np.abs(zeros) < 1.2e-38)).any()


def test_either_side_of_a_jump_is_right_at_the_edge_and_nothing_else(ask) -> None:
    def jumping(_: nn.Module, x: Tensor) -> Tensor:
        return torch.where(x >= 2.5, 1.0, 0.0).sum(1)

    model = Squashed()
    entries = broken(entries_of(model), "log_prob", jumping)
    cases = prepare("bin_edges", model, entries, "log_prob")

    def judged(run: Callable[[Tensor], Tensor]) -> str:
        def answer(feeds: dict) -> dict:
            return {"log_prob": run(torch.from_numpy(np.array(feeds["x"]))).float().numpy()}

        subject = Subject(
            tensors_of(entries[0]), "exported", "", Path("x"), answer, cases, lambda _: None
        )
        return checks.load("bin_edges").judge(subject).status

    assert judged(lambda x: torch.where(x > 2.5, 1.0, 0.0).sum(1)) == "ok"
    assert judged(lambda x: torch.where(x > 2.5, 1.01, 0.0).sum(1)) == "failed"
    assert (
        judged(lambda x: torch.where(x == 2.5, 3.0, jumping(model, x)[:, None]).sum(1)) == "failed"
    )


def test_tails_on_which_eager_overflows_are_left_out() -> None:
    def exploding(_: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return torch.exp(torch.exp(3 * x)).sum(1)

    x = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    given = Entry("f", exploding, [Input("x", x, ("batch", None))], ["y"])
    oracle = Oracle(nn.Identity(), given, ["y"])
    source = Source(
        entry=given,
        signature=tensors_of(given),
        model=nn.Identity(),
        data=None,
        samples=64,
        seed=0,
        answer=oracle.answer,
        entries=[given],
        exact=oracle.exact,
        eager=oracle.eager,
    )
    cases = {case.name: case for case in checks.load("parity").prepare(source)}
    assert 0 < len(cases["tails"].eager["y"]) < 64
    assert np.isfinite(cases["tails"].eager["y"]).all()
    assert len(cases["real"].eager["y"]) == 64
