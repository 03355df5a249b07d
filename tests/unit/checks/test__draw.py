"""Inputs of checks: every draw stays inside the input's domain, edges reach both bounds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from toolkit.checks import _draw
from toolkit.core.entry import Entry, Input
from toolkit.core.protocols import Data, Source
from toolkit.core.signature import Signature

DRAWS = {
    "real": lambda source: _draw.real(source, 256),
    "noise": lambda source: _draw.noise(source, 256),
    "tails": lambda source: _draw.tails(source, 256),
    "edges": lambda source: _draw.edges(source, 128),
}


def source_of(*inputs: Input, data: Data | None = None) -> Source:
    return Source(
        entry=Entry("log_prob", inputs=inputs),
        signature=Signature("log_prob", "flow", (), ()),
        model=torch.nn.Identity(),
        data=data,
        samples=256,
        seed=0,
        answer=None,
        entries=(),
        exact=None,
        eager=None,
    )


def bounded(kind: str = "data", dtype: torch.dtype = torch.float32, **bounds: float) -> Input:
    return Input("x", torch.rand(4, 3).to(dtype), dims=("batch", None), kind=kind, **bounds)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("bounds", [{"low": 0.1, "high": 0.7}, {"low": 0.1}, {"high": -0.1}])
@pytest.mark.parametrize("kind", ["data", "noise", "context"])
@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_every_draw_stays_inside(draw, kind, bounds, dtype) -> None:
    drawn = draw(source_of(bounded(kind, dtype, **bounds)))["x"]
    low, high = (torch.tensor(bounds.get(side, 0.0), dtype=dtype) for side in ("low", "high"))
    assert drawn.dtype == dtype
    assert "low" not in bounds or (drawn >= low).all()
    assert "high" not in bounds or (drawn <= high).all()
    assert len(drawn.unique()) > 2


def test_held_out_samples_are_kept_as_they_are_and_brought_inside() -> None:
    x = torch.linspace(-0.5, 1.5, 512).reshape(-1, 1).expand(-1, 3).contiguous()
    source = source_of(bounded(low=0, high=1), data=Data({"x": x}, {"x": x}))
    drawn = _draw.real(source, 512)["x"]
    kept = (x >= 0) & (x <= 1)
    assert torch.equal(drawn[kept], x[kept])
    assert (drawn.min(), drawn.max()) == (0, 1)


def test_edges_hold_both_bounds_and_their_neighbours_inside() -> None:
    values = _draw.edges(source_of(bounded(low=-2, high=0.7)), 128)["x"][:, 0].numpy()
    for bound, towards in ((-2, 1), (0.7, -1)):
        at = np.float32(bound)
        assert at in values
        assert np.nextafter(at, np.float32(towards * 9)) in values
    zeros = values[values == 0]
    assert {bool(sign) for sign in np.signbit(zeros)} == {True, False}


def test_edges_of_integers_are_their_bounds_and_every_input_has_as_many() -> None:
    label = Input("label", torch.zeros(4, dtype=torch.int64), dims=("batch",), low=3, high=9)
    drawn = _draw.edges(source_of(bounded(low=0, high=1), label), 128)
    assert set(drawn["label"].tolist()) == {3, 9}
    assert len(drawn["label"]) == len(drawn["x"]) == 128


def test_edges_are_constant_samples_first_then_real_ones_with_one_element_replaced() -> None:
    source = source_of(bounded(low=0, high=0.999))
    drawn = _draw.edges(source, 64)["x"]
    constant = (drawn == drawn[:, :1]).all(1)
    alike = int(constant.sum())
    assert constant[:alike].all()
    real = _draw.real(source, 64 - alike)["x"]
    changed = drawn[alike:] != real
    assert (changed.sum(1) == 1).all()
    assert changed.any(0).all()
    assert set(drawn[alike:][changed].tolist()) == set(drawn[:alike, 0].tolist())
    assert len(_draw.edges(source, 3)["x"]) == 3


@pytest.mark.parametrize(("most", "kept"), [(9, [0, 1, 2, 3, 4]), (3, [0, 2, 4]), (2, [0, 4])])
def test_few_of_many_values_are_both_ends_and_those_between(most: int, kept: list[int]) -> None:
    assert _draw.evenly(range(5), most) == kept
    assert _draw.evenly([7, 8], 0) == [7]


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
@pytest.mark.parametrize("value", [torch.eye(4), torch.zeros(2, 9, dtype=torch.int64)])
def test_an_input_that_does_not_follow_the_batch_keeps_its_shape(draw, value) -> None:
    drawn = draw(source_of(bounded(), Input("a", value)))
    assert drawn["a"].shape == value.shape
    assert len(drawn["x"]) > 100


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_a_single_number_is_drawn_around_its_example(draw) -> None:
    drawn = draw(source_of(bounded(), Input("t", torch.tensor(50.0))))
    assert drawn["t"].shape == ()
    assert 40 < drawn["t"] < 60
    assert draw(source_of(Input("t", torch.tensor(50.0))))["t"].isfinite()


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_an_input_without_elements_has_as_many_samples_as_the_others(draw, dtype) -> None:
    empty = Input("c", torch.zeros(4, 0, dtype=dtype), dims=("batch", None))
    drawn = draw(source_of(bounded(), empty))
    assert drawn["c"].shape == (len(drawn["x"]), 0)
