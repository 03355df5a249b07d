"""Feeds against signatures: shared dimensions, multiples, ranges and draws inside them."""

from __future__ import annotations

import numpy as np
import pytest

from toolkit.core.errors import UsageError
from toolkit.core.signature import Signature, TensorSpec
from toolkit.runtime.feeds import bind, describe, draw_inputs, draw_noise

SIGNATURE = Signature(
    "generate",
    "autoregressive",
    (
        TensorSpec("token", "int64", ("batch", "time"), kind="token", low=0, high=9),
        TensorSpec("context", "float32", ("batch", 2), kind="context"),
    ),
    (),
    {"batch": (1, 8, 64), "time": (8, 32, 512, 8)},
)


def feeds(batch: int = 2, time: int = 16, other: int = 2, token: int = 0) -> list[np.ndarray]:
    return [np.full((batch, time), token), np.zeros((other, 2), np.float32)]


def test_takes_good_feeds() -> None:
    assert list(bind(SIGNATURE, feeds(), {})) == ["token", "context"]
    assert describe(SIGNATURE.inputs[0]) == "token: int64[batch, time]"


@pytest.mark.parametrize(
    ("values", "named", "reason"),
    [
        (feeds(other=3), {}, "'batch' is 3 here and 2 in 'token'"),
        (feeds(time=4), {}, "at least 8 and a multiple of 8"),
        (feeds(time=17), {}, "multiple of 8"),
        (feeds(token=10), {}, "values run from 10 to 10"),
        (feeds(token=-1), {}, "values run from -1"),
        ([*feeds(), 1], {}, "takes 2 inputs, 3 were given"),
        (feeds(), {"token": 1}, "twice"),
    ],
)
def test_refuses_what_does_not_fit(values: list, named: dict, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        bind(SIGNATURE, values, named)


@pytest.mark.parametrize(
    ("law", "mean", "variance"),
    [("normal", 0.0, 1.0), ("uniform", 0.5, 1 / 12), ("gumbel", 0.5772, np.pi**2 / 6)],
)
def test_noise_follows_its_law(law: str, mean: float, variance: float) -> None:
    spec = TensorSpec("z", "float32", ("batch", 8), kind="noise", law=law)
    drawn = draw_noise(Signature("s", "any", (spec,), ()), batch=4096)["z"]
    error = 5 * np.sqrt(variance / drawn.size)
    assert abs(drawn.mean() - mean) < error
    assert abs(drawn.var() - variance) < 0.05 * max(variance, 0.2)


DOMAINS = Signature(
    "log_prob",
    "flow",
    (
        TensorSpec("x", "float32", ("batch", 2), low=-0.1, high=0.7),
        TensorSpec("z", "float32", ("batch", 2), kind="noise", law="gumbel", low=0, high=None),
        TensorSpec("half", "float16", ("batch", 2), kind="context", high=0.1),
        TensorSpec("label", "int64", ("batch",), kind="context", low=3, high=5),
        TensorSpec("flag", "bool", ("batch",), kind="context"),
    ),
    (),
)


def test_every_draw_stays_inside_its_domain_and_is_taken_back() -> None:
    drawn = draw_inputs(DOMAINS, batch=2048)
    assert list(bind(DOMAINS, (), drawn)) == ["x", "z", "half", "label", "flag"]
    assert drawn["x"].min() < 0 < 0.6 < drawn["x"].max()
    assert set(np.unique(drawn["label"])) == {3, 4, 5}
    assert drawn["flag"].dtype == bool
    assert np.array_equal(draw_noise(DOMAINS, batch=64)["z"] >= 0, np.ones((64, 2), bool))


@pytest.mark.parametrize("value", [np.nextafter(np.float32(0.7), np.float32(1)), -0.2, np.nan])
def test_a_float_outside_its_domain_is_refused(value: float) -> None:
    drawn = draw_inputs(DOMAINS, batch=2)
    drawn["x"][0, 0] = value
    with pytest.raises(UsageError, match=r"the graph takes -0\.1 to 0\.7"):
        bind(DOMAINS, (), drawn)


def test_a_float_at_its_bound_is_taken() -> None:
    drawn = draw_inputs(DOMAINS, batch=2)
    drawn["x"][0] = [np.float32(-0.1), np.float32(0.7)]
    assert bind(DOMAINS, (), drawn)
