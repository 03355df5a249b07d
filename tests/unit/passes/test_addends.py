"""What is added to a linear layer's result is the layer's own third operand."""

from __future__ import annotations

import numpy as np
import pytest

from toolkit.passes.addends import rewrite

DRAW = np.random.default_rng(0)
X, V = (DRAW.normal(size=(3, 4)).astype("f") for _ in range(2))
CONSTANTS = {
    "w": DRAW.normal(size=(4, 4)).astype("f"),
    "b": DRAW.normal(size=4).astype("f"),
    "b2": DRAW.normal(size=4).astype("f"),
}


def text(body: str) -> str:
    return f"g (float[n,4] x, float[n,4] v) => (float[n,4] y) {{ {body} }}"


@pytest.mark.parametrize(
    ("body", "left"),
    [
        (
            "h = Gemm (x, w, b) a = Add (h, v) r = Relu (a) k = Gemm (r, w, b) y = Add (v, k)",
            ["Add", "Gemm", "Relu", "Gemm"],
        ),
        (
            "h = Gemm (x, w, b) a = Sub (v, h) k = Gemm (a, w, b) y = Sub (v, k)",
            ["Sub", "Gemm", "Gemm"],
        ),
        ("h = Gemm (x, w) y = Sub (v, h)", ["Gemm"]),
    ],
)
def test_the_layer_adds_it(build, answer, body, left) -> None:
    model = build(text(body), **CONSTANTS)
    before = answer(model, X, V)[0]
    assert rewrite(model).count
    assert [node.op_type for node in model.graph] == left
    np.testing.assert_allclose(answer(model, X, V)[0], before, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "body",
    [
        "h = Gemm (x, w, b) y = Add (h, v)",
        "h = Gemm (x, w, b) a = Add (h, v) k = Gemm (a, w, b2) y = Add (k, v)",
        "h = Gemm (x, w, b) y = Sub (h, v)",
        "h = Gemm (x, w) a = Add (h, v) y = Mul (a, h)",
        "h = Gemm <alpha = 2.0> (x, w) y = Add (h, v)",
        "h = Gemm (x, w) r = ReduceMean <keepdims = 1> (v) y = Add (h, r)",
    ],
)
def test_a_sum_that_gains_nothing_stays(build, body) -> None:
    assert rewrite(build(text(body), **CONSTANTS)).count == 0
