"""Which rows of powers become products."""

from __future__ import annotations

import numpy as np
import pytest

from toolkit.passes.powers import rewrite


def make(build, exponents, size: int = 1):
    text = f"g (float[n,{size}] x) => (float[n,{len(exponents)}] y) {{ y = Pow (x, e) }}"
    return build(text, e=np.array(exponents, np.float64))


@pytest.mark.parametrize("exponents", [[0, 1, 2, 3, 4], [3, 0], [8, 7, 6, 5, 1], [0, 0]])
def test_products_are_powers(build, answer, exponents) -> None:
    model = make(build, exponents)
    assert rewrite(model).count == 1
    assert "Pow" not in [node.op_type for node in model.graph]
    x = np.array([[-3.5], [-1], [-0.0], [0.25], [1], [30], [np.inf], [np.nan]], np.float32)
    want = x.astype(np.float64) ** np.array(exponents)
    np.testing.assert_allclose(answer(model, x)[0], want, rtol=1e-6)


@pytest.mark.parametrize(
    ("exponents", "size"),
    [([0.5, 1], 1), ([-1, 2], 1), ([2, 9], 1), ([1, 2, 3], 3)],
    ids=["fraction", "negative", "large", "many numbers"],
)
def test_other_powers_stay(build, exponents, size) -> None:
    assert rewrite(make(build, exponents, size)).count == 0
