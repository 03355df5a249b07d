"""The long form of Elu keeps its ends, its kink and what is no number."""

from __future__ import annotations

import numpy as np
import pytest

from toolkit.passes.elu import rewrite


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_values_are_elu(build, answer, dtype) -> None:
    name = "float" if dtype == np.float32 else "double"
    model = build(f"g ({name}[n] x) => ({name}[n] y) {{ y = Elu (x) }}")
    assert rewrite(model).count == 1
    x = np.array([-np.inf, -200, -1, -1e-3, -1e-9, 0, 1e-9, 1, 200, np.inf, np.nan], dtype)
    wide = x.astype(np.float64)
    want = np.where(wide < 0, np.expm1(np.minimum(wide, 0)), wide)
    limit = 2 * np.finfo(dtype).eps
    np.testing.assert_allclose(answer(model, x)[0], want, rtol=limit, atol=limit)


def test_a_steeper_slope_stays(build) -> None:
    model = build("g (float[n] x) => (float[n] y) { y = Elu <alpha = 2.0> (x) }")
    assert rewrite(model).count == 0
