"""A sigmoid that is spelled out becomes the operator; nothing like it does."""

from __future__ import annotations

import numpy as np
import pytest

from toolkit.passes.sigmoid import rewrite

TEXT = "g (float[n] x) => (float[n] y) { a = Neg (x) b = Exp (a) c = Add (%s) y = Reciprocal (c) }"


@pytest.mark.parametrize("order", ["b, one", "one, b"])
def test_it_becomes_one_operator_with_the_same_values(build, answer, order) -> None:
    model = build(TEXT % order, one=np.float32(1))
    x = np.linspace(-12, 24, 200, dtype=np.float32)
    before = answer(model, x)[0]
    assert rewrite(model).count == 1
    assert [node.op_type for node in model.graph] == ["Sigmoid"]
    np.testing.assert_allclose(answer(model, x)[0], before, rtol=1e-5, atol=2e-7)


def test_another_constant_is_no_sigmoid(build) -> None:
    assert rewrite(build(TEXT % "b, one", one=np.float32(1.001))).count == 0


def test_no_sign_is_no_sigmoid(build) -> None:
    text = "g (float[n] x) => (float[n] y) { b = Exp (x) c = Add (b, one) y = Reciprocal (c) }"
    assert rewrite(build(text, one=np.float32(1))).count == 0
