"""Views that change nothing go, also with elementwise operators between them; others stay."""

from __future__ import annotations

import numpy as np
import pytest

from toolkit.passes.views import rewrite

X = np.random.default_rng(0).normal(size=(3, 8)).astype("f")
CONSTANTS = {
    "same": np.array([-1, 8]),
    "flat": np.array([-1]),
    "split": np.array([-1, 2, 4]),
    "column": np.array([-1, 8, 1]),
    "last": np.array([-1]),
    "two": np.float32(2),
    "sizes": np.array([1, 8]),
    "row": np.ones(8, "f"),
}


KNOWN = "<float[n,8] c, float[n,8] e, float[n,2,4] w, float[m] a>"


def text(body: str, shape: str = "n, 8") -> str:
    return f"g (float[n,8] x) => (float[{shape}] y) {KNOWN} {{ {body} }}"


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ("e = Exp (x) y = Reshape (e, same)", ["Exp"]),
        ("e = Reshape (x, same) y = Exp (e)", ["Exp"]),
        ("e = Expand (x, sizes) y = Exp (e)", ["Exp"]),
        ("d = Unsqueeze (x, last) b = Exp (d) y = Squeeze (b, last)", ["Exp"]),
        (
            "a = Reshape (x, flat) b = Mul (two, a) d = Log (b) y = Reshape (d, same)",
            ["Mul", "Log"],
        ),
        (
            "a = Reshape (x, flat) b = Exp (a) c = Reshape (b, same) d = Neg (a) "
            "e = Reshape (d, same) y = Add (c, e)",
            ["Exp", "Neg", "Add"],
        ),
    ],
)
def test_what_is_turned_back_is_not_turned(build, answer, body, left) -> None:
    model = build(text(body), **CONSTANTS)
    before = answer(model, X)[0]
    assert rewrite(model).count
    assert [node.op_type for node in model.graph] == left
    np.testing.assert_array_equal(answer(model, X)[0], before)


def test_two_views_become_one(build, answer) -> None:
    body = "d = Reshape (x, column) w = Reshape (d, split) y = Exp (w)"
    model = build(text(body, "n, 2, 4"), **CONSTANTS)
    before = answer(model, X)[0]
    assert rewrite(model).count == 1
    assert [node.op_type for node in model.graph] == ["Reshape", "Exp"]
    np.testing.assert_array_equal(answer(model, X)[0], before)


@pytest.mark.parametrize(
    "body",
    [
        "a = Reshape (x, flat) b = CumSum (a, zero) y = Reshape (b, same)",
        "w = Reshape (x, split) b = Mul (w, corner) y = Reshape (b, same)",
        "w = Reshape (x, split) b = Mul (w, deep) y = Reshape (b, same)",
    ],
)
def test_operators_that_feel_the_shape_keep_it(build, body) -> None:
    constants = {
        **CONSTANTS,
        "zero": np.array(0),
        "corner": np.ones((2, 1), "f"),
        "deep": np.ones((1, 1, 1), "f"),
    }
    assert rewrite(build(text(body), **constants)).count == 0


def test_a_view_that_is_read_twice_stays(build, answer) -> None:
    body = (
        "a = Reshape (x, flat) b = Exp (a) c = Reshape (b, same) d = ReduceSum (b) y = Add (c, d)"
    )
    model = build(text(body), **CONSTANTS)
    before = answer(model, X)[0]
    assert rewrite(model).count == 0
    np.testing.assert_array_equal(answer(model, X)[0], before)
