"""Feeds against signatures: shared dimensions, multiples, integer ranges."""

from __future__ import annotations

import numpy as np
import pytest

from toolkit.core.errors import UsageError
from toolkit.core.signature import Signature, TensorSpec
from toolkit.runtime.feeds import bind, describe, draw_noise

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
