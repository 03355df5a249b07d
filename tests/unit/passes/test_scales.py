"""Scalar factors in a row become one; a factor that others read, or that widens, stays."""

from __future__ import annotations

import numpy as np
import pytest

from toolkit.passes.scales import rewrite

X = np.random.default_rng(0).normal(size=5).astype("f")
CONSTANTS = {
    "a": np.float32(0.636),
    "two": np.array([2.0], "f"),
    "none": np.float32(0),
    "tiny": np.float32(1e-30),
    "wide": np.ones((1, 1), "f"),
}


def text(body: str) -> str:
    return f"g (float[n] x) => (float[n] y) {{ {body} }}"


@pytest.mark.parametrize(
    "body",
    [
        "p = Mul (x, a) q = Mul (two, p) y = Neg (q)",
        "p = Neg (x) q = Div (p, two) y = Mul (q, a)",
    ],
)
def test_they_become_one(build, answer, body) -> None:
    model = build(text(body), **CONSTANTS)
    before = answer(model, X)[0]
    assert rewrite(model).count == 2
    assert [node.op_type for node in model.graph] == ["Mul"]
    np.testing.assert_allclose(answer(model, X)[0], before, rtol=3e-7)


@pytest.mark.parametrize(
    "body",
    [
        "p = Mul (x, a) q = Neg (p) y = Add (p, q)",
        "p = Div (a, x) y = Neg (p)",
        "p = Mul (x, tiny) y = Mul (p, tiny)",
        "p = Mul (x, none) y = Neg (p)",
    ],
)
def test_others_stay(build, body) -> None:
    assert rewrite(build(text(body), **CONSTANTS)).count == 0


def test_a_factor_with_more_axes_stays(build) -> None:
    wide = text("p = Mul (x, wide) y = Neg (p)").replace("float[n] y", "float[1,n] y")
    assert rewrite(build(wide, **CONSTANTS)).count == 0
