"""Which powers are reduced; the long form of Softplus keeps its ends."""

from __future__ import annotations

import numpy as np
import pytest

from toolkit.passes.power import rewrite as power
from toolkit.passes.softplus import rewrite as softplus

TEXT = "g (float[n] x) => (float[n] y) { y = Pow (x, e) }"


@pytest.mark.parametrize(
    ("exponent", "expected"),
    [
        (2.0, ["Mul"]),
        (3.0, ["Mul", "Mul"]),
        (0.5, ["Sqrt"]),
        (-1.0, ["Reciprocal"]),
        (2.5, ["Pow"]),
    ],
)
def test_small_exponents_are_spelled_out(build, exponent, expected) -> None:
    model = build(TEXT, e=np.array(exponent))
    assert power(model).count == (expected != ["Pow"])
    assert [node.op_type for node in model.graph] == expected


def test_softplus_neither_overflows_nor_loses_its_tail(build, answer) -> None:
    model = build("g (float[n] x) => (float[n] y) { y = Softplus (x) }")
    x = np.float32([-200, -20, -1, 0, 1, 20, 200])
    assert softplus(model).count == 1
    want = np.logaddexp(0, x.astype(np.float64))
    np.testing.assert_allclose(answer(model, x)[0], want, rtol=3e-7, atol=1e-7)
