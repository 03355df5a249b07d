"""A sum of products with one row of weights is a matrix product; other sums stay."""

from __future__ import annotations

import numpy as np
import pytest

from toolkit.passes.dots import rewrite

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(3, 5)).astype("f")
CONSTANTS = {
    "row": DRAW.normal(size=(1, 5)).astype("f"),
    "flat": DRAW.normal(size=5).astype("f"),
    "table": DRAW.normal(size=(3, 5)).astype("f"),
    "one": np.float32(2),
    "last": np.array([1]),
    "both": np.array([0, 1]),
    "first": np.array([0]),
}


def text(body: str, shape: str) -> str:
    return f"g (float[n,5] x) => (float[{shape}] y) {{ {body} }}"


@pytest.mark.parametrize(("keep", "shape"), [(1, "n, 1"), (0, "n")])
@pytest.mark.parametrize("product", ["Mul (x, row)", "Mul (flat, x)"])
def test_it_is_one_product(build, answer, keep, shape, product) -> None:
    body = f"p = {product} y = ReduceSum <keepdims = {keep}> (p, last)"
    model = build(text(body, shape), **CONSTANTS)
    before = answer(model, X)[0]
    assert rewrite(model).count == 1
    assert [node.op_type for node in model.graph] == ["MatMul"]
    np.testing.assert_allclose(answer(model, X)[0], before, atol=1e-6)


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        ("p = Mul (x, row) y = ReduceSum <keepdims = 0> (p, first)", "5"),
        ("p = Mul (x, row) y = ReduceSum <keepdims = 0> (p, both)", ""),
        ("p = Mul (x, one) y = ReduceSum <keepdims = 0> (p, last)", "n"),
        ("p = Mul (x, x) y = ReduceSum <keepdims = 0> (p, last)", "n"),
        ("p = Mul (x, row) s = ReduceSum <keepdims = 1> (p, last) y = Add (p, s)", "n, 5"),
    ],
)
def test_another_sum_stays(build, body, shape) -> None:
    assert rewrite(build(text(body, shape), **CONSTANTS)).count == 0


def test_a_table_of_weights_stays(build) -> None:
    body = "p = Mul (x, table) y = ReduceSum <keepdims = 0> (p, last)"
    given = text(body, "3").replace("float[n,5] x", "float[3,5] x")
    assert rewrite(build(given, **CONSTANTS)).count == 0
