"""What every sample shares is a constant; what differs, or takes its shape from it, stays."""

from __future__ import annotations

import numpy as np
import pytest

from toolkit.passes.uniform import rewrite

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(3, 4)).astype("f")
CONSTANTS = {
    "zero": np.float32(0),
    "two": np.float32(2),
    "w": DRAW.normal(size=(4, 6)).astype("f"),
    "b": DRAW.normal(size=6).astype("f"),
    "v": DRAW.normal(size=(6, 4)).astype("f"),
    "pair": np.array([-1, 2, 3]),
    "flat": np.array([-1]),
    "back": np.array([-1, 4]),
    "six": np.array([-1, 6]),
    "first": np.array([0]),
    "along": np.array(0),
}
START = "size = Shape (x) z = Expand (zero, size) h = Gemm (z, w, b) r = Relu (h) "

KNOWN = "<float[n,2,3] q, float[n,6] s, float[n] c, float[n,4] z>"


def text(body: str, shape: str = "n, 4") -> str:
    return f"g (float[n,4] x) => (float[{shape}] y) {KNOWN} {{ {body} }}"


@pytest.mark.parametrize(
    ("body", "left"),
    [
        (START + "m = MatMul (r, v) y = Add (x, m)", ["Add"]),
        (
            START + "q = Reshape (r, pair) s = Reshape (q, six) m = MatMul (s, v) y = Sub (m, x)",
            ["Sub"],
        ),
        (
            "n = Shape <end = 1> (x) c = ConstantOfShape <value = float[1] {3.0}> (n) "
            "d = Mul (c, two) k = ReduceSum <keepdims = 0> (x, ones) t = Add (k, d) "
            "u = Unsqueeze (t, ones) y = Add (x, u)",
            ["ReduceSum", "Add", "Unsqueeze", "Add"],
        ),
    ],
)
def test_it_is_computed_once(build, answer, body, left) -> None:
    model = build(text(body), **CONSTANTS, ones=np.array([1]))
    before = answer(model, X)[0]
    assert rewrite(model).count == 1
    assert [node.op_type for node in model.graph] == left
    for rows in (X, X[:1]):
        np.testing.assert_allclose(answer(model, rows)[0], before[: len(rows)], rtol=1e-6)


@pytest.mark.parametrize(
    "body",
    [
        "m = MatMul (r, v) k = ReduceSum <keepdims = 1> (m, first) y = Add (x, k)",
        "m = MatMul (r, v) k = CumSum (m, along) y = Add (x, k)",
        "m = MatMul (r, v) o = Neg (m) e = Softmax <axis = 0> (o) y = Add (x, e)",
        "m = MatMul (r, v) y = Exp (m)",
    ],
)
def test_what_depends_on_how_many_samples_there_are_stays(build, answer, body) -> None:
    model = build(text(START + body), **CONSTANTS)
    before = answer(model, X)[0]
    assert rewrite(model).count == 0
    np.testing.assert_array_equal(answer(model, X)[0], before)


def test_a_sum_that_it_widens_keeps_it(build) -> None:
    body = "size = Shape (x) z = Expand (zero, size) y = Add (z, two)"
    assert rewrite(build(text(body), **CONSTANTS)).count == 0


def test_sizes_that_only_some_samples_fit_keep_it(build, answer) -> None:
    body = """a = Reshape (x, flat) size = Shape (a) c = Expand (two, size) d = Reshape (c, squares)
      e = Reshape (x, squares) f = Mul (e, d) y = Reshape (f, back)"""
    known = "<float[m] a, float[m] c, float[p,2,2] d, float[p,2,2] e, float[p,2,2] f>"
    model = build(
        f"g (float[n,4] x) => (float[n,4] y) {known} {{ {body} }}",
        **CONSTANTS,
        squares=np.array([-1, 2, 2]),
    )
    assert rewrite(model).count == 0
    np.testing.assert_array_equal(answer(model, X)[0], 2 * X)
