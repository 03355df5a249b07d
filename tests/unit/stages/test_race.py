"""The quick race: who takes part, when it ends, what it says."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from toolkit.core import registry
from toolkit.core.clock import Slot
from toolkit.core.signature import Signature, TensorSpec
from toolkit.core.statistics import Ratio
from toolkit.stages._optimize.race import Course, Raced, Timing, race
from toolkit.stages._optimize.trial import timed_feeds

X = TensorSpec("x", "float32", ("batch", 2))
TIMING = Timing(slot=0.0, rounds=4, most=8, fresh=2)


class FakeRunner:
    opened: ClassVar[list[str]] = []
    closed: ClassVar[int] = 0

    def __init__(self, name: str) -> None:
        self.name = name
        FakeRunner.opened.append(name)

    def prepare(self, _: object):
        return lambda: self.name

    def close(self) -> None:
        FakeRunner.closed += 1


class FakeBackend:
    def open(self, artifact, **_: object) -> FakeRunner:
        return FakeRunner(artifact.path.stem)


@pytest.fixture
def course(monkeypatch: pytest.MonkeyPatch) -> Iterator[Course]:
    FakeRunner.opened, FakeRunner.closed = [], 0
    monkeypatch.setattr(registry.backends.__class__, "load", lambda *_: FakeBackend())
    yield Course(Signature("e", "flow", (X,), ()), [{}, {}], timing=TIMING)
    assert FakeRunner.closed == len(FakeRunner.opened)


def costs(monkeypatch: pytest.MonkeyPatch, **nanoseconds: list[int]) -> None:
    def take_slot(call, _: float) -> Slot:
        samples = nanoseconds[call()]
        samples.append(samples.pop(0))
        return Slot(wall=(1,), cpu=(samples[0],))

    monkeypatch.setattr("toolkit.stages._optimize.race.take_slot", take_slot)


def test_a_clear_race_ends_at_the_first_look(course, monkeypatch) -> None:
    costs(monkeypatch, before=[1000], after=[500])
    raced = race(course, Path("before.onnx"), Path("after.onnx"))
    assert raced.ratio.value == pytest.approx(2.0)
    assert raced.band == 0.0
    assert raced.verdict == "faster"
    assert FakeRunner.opened == ["before", "before", "after"] * 2


def test_an_unclear_race_goes_on(course, monkeypatch) -> None:
    costs(monkeypatch, before=[1000, 1000, 1400, 900, 1100], after=[1000, 1300, 800])
    raced = race(course, Path("before.onnx"), Path("after.onnx"))
    assert raced.verdict == "undecided"
    assert len(FakeRunner.opened) == 3 * TIMING.most / TIMING.fresh


def test_a_favoured_contestant_need_not_prove_itself(course, monkeypatch) -> None:
    costs(monkeypatch, before=[1000, 1400, 1050], after=[980, 1350, 1000])
    raced = race(course, Path("before.onnx"), Path("after.onnx"), favoured=True)
    assert raced.ratio.value >= 1
    assert len(FakeRunner.opened) == 3 * TIMING.rounds / TIMING.fresh


def test_noise_of_the_baseline_hides_a_difference() -> None:
    ratio = Ratio(1.05, 1.04, 1.06)
    assert Raced(ratio, band=0.02).verdict == "faster"
    assert Raced(ratio, band=0.05).verdict == "undecided"
    assert Raced(Ratio(1.0, 0.995, 1.004), band=0.0).is_clear


@pytest.mark.parametrize(
    ("dims", "ranges", "sizes"),
    [
        (("batch", 2), {"batch": (1, 8, 64)}, [1, 8]),
        (("batch", 2), {}, [1, 8]),
        ((4, 2), {}, [4]),
        ((2, "batch"), {"batch": (2, 2, 4)}, [2]),
    ],
)
def test_the_batch_sizes_that_count(dims, ranges, sizes) -> None:
    from toolkit.core.case import Case

    spec = TensorSpec("x", "float32", dims)
    signature = Signature("e", "flow", (spec,), (), ranges)
    shape = [16 if size == "batch" else size for size in dims]
    case = Case("parity", "real", {"x": np.zeros(shape, np.float32)})
    feeds = timed_feeds(signature, [case])
    assert [feed["x"].shape[spec.batch_axis] for feed in feeds] == sizes
    assert all(math.prod(feed["x"].shape) for feed in feeds)
