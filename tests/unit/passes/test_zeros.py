"""Zeros are not added; what gives a sum its shape stays."""

from __future__ import annotations

import numpy as np
import pytest

from toolkit.passes.zeros import rewrite

X = np.random.default_rng(0).normal(size=5).astype("f")


def text(sum_of: str, shape: str = "n") -> str:
    return f"""g (float[n] x) => (float[{shape}] y) {{
      size = Shape (x)
      zeros = ConstantOfShape <value = float[1] {{0.0}}> (size)
      spread = Expand (zero, size)
      e = Exp (x)
      s = {sum_of}
      y = Exp (s)
    }}"""


@pytest.mark.parametrize(
    "form", ["Add (zeros, e)", "Add (e, zeros)", "Sub (e, spread)", "Add (e, zero)"]
)
def test_they_are_not_added(build, answer, form) -> None:
    model = build(text(form), zero=np.float32(0))
    before = answer(model, X)[0]
    assert rewrite(model).count == 1
    assert [node.op_type for node in model.graph] == ["Exp", "Exp"]
    np.testing.assert_array_equal(answer(model, X)[0], before)


@pytest.mark.parametrize("form", ["Sub (zeros, e)", "Add (e, one)"])
def test_what_changes_the_values_stays(build, form) -> None:
    assert rewrite(build(text(form), zero=np.float32(0), one=np.float32(1))).count == 0


def test_zeros_that_widen_a_sum_stay(build) -> None:
    model = build(text("Add (e, wide)", "3, n"), zero=np.float32(0), wide=np.zeros((3, 1), "f"))
    assert rewrite(model).count == 0
