"""The form that keeps small digits becomes the short one; what only looks like it stays."""

from __future__ import annotations

import numpy as np
import pytest

from toolkit.passes.log1p import rewrite

TEXT = """g (float[n] u) => (float[n] y) {
  w = Add (u, one) l = Log (w) back = Sub (w, one) lost = Sub (u, back) s = Add (l, lost)
  y = Neg (s)
}"""


CHOSEN = TEXT.replace(
    "s = Add (l, lost)",
    """small = Less (u, half)
  some = Where (small, lost, zero) s = Add (l, some)""",
)


@pytest.mark.parametrize("text", [TEXT, CHOSEN])
def test_it_becomes_one_logarithm(build, answer, text) -> None:
    model = build(text, one=np.float32(1), half=np.float32(0.5), zero=np.float32(0))
    u = np.linspace(0, 1, 100, dtype=np.float32)
    before = answer(model, u)[0]
    assert rewrite(model).count == 1
    assert [node.op_type for node in model.graph] == ["Add", "Log", "Neg"]
    np.testing.assert_allclose(answer(model, u)[0], before, atol=2e-7)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Sub (w, one)", "Sub (w, half)"),
        ("Sub (u, back)", "Sub (w, back)"),
        ("lost, zero", "lost, half"),
    ],
)
def test_another_sum_stays(build, old, new) -> None:
    constants = {"one": np.float32(1), "half": np.float32(0.5), "zero": np.float32(0)}
    assert rewrite(build(CHOSEN.replace(old, new), **constants)).count == 0
