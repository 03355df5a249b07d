"""A loop's attention reads what is filled; where something else reads the rest, all stays."""

from __future__ import annotations

import numpy as np
import pytest

from toolkit.passes.filled_caches import rewrite

GRAPH = """
g (float[2,4] q, float[6,4] k, float[6,4] v, int64 n) => (float[2,1,4] y) {
  filled = Less (places, n)
  hidden = Where (filled, shown, unfilled)
  y = Scan <num_scan_inputs = 1, body = attend (float[4] now) => (float[1,4] found)
    <float[4,1] query, float[6,1] old, float[2,1] recent, float[8,1] scores, float[1,8] row,
     float[8] shift, float[1,8] masked, float[1,8] weights, float[1,6] of_old, float[1,2] of_recent,
     float[1,4] a, float[1,4] b> {
    query = Unsqueeze (now, one)
    old = MatMul (k, query)
    recent = MatMul (newest, query)
    scores = Concat <axis = 0> (old, recent)
    row = Reshape (scores, row_dims)
    shift = Concat <axis = 0> (hidden, later)
    masked = Add (row, shift)
    weights = Softmax <axis = -1> (masked)
    of_old, of_recent = Split <axis = 1> (weights, sizes)
    a = MatMul (of_old, v)
    b = MatMul (of_recent, newest)
    found = Add (a, b)
  }> (q)
}
"""
DRAW = np.random.default_rng(0)
CONSTANTS = {
    "one": np.array([1]),
    "places": np.arange(6),
    "shown": np.array(0.0),
    "unfilled": np.array(-np.inf),
    "newest": DRAW.normal(size=(2, 4)),
    "later": np.array([0.0, -np.inf]),
    "row_dims": np.array([1, 8]),
    "sizes": np.array([6, 2]),
    "shifted": np.arange(6) + 1,
    "little": np.array(-3.0),
    "uneven": np.array([5, 3]),
    "bias": DRAW.normal(size=8),
}


@pytest.mark.parametrize("count", [-1, 0, 1, 4, 6, 9])
def test_reads_what_is_filled(build, answer, count):
    model = build(GRAPH, **CONSTANTS)
    q, k, v = (DRAW.normal(size=size).astype("f") for size in ((2, 4), (6, 4), (6, 4)))
    (before,) = answer(model, q, k, v, np.array(count))
    assert rewrite(model).count == 1
    assert [node.op_type for node in model.graph].count("Slice") == 3
    (after,) = answer(model, q, k, v, np.array(count))
    np.testing.assert_allclose(after, before, atol=1e-6)
    # What lies behind is not read.
    k[max(count, 0) :] = np.nan
    v[max(count, 0) :] = np.nan
    (after,) = answer(model, q, k, v, np.array(count))
    np.testing.assert_allclose(after, before, atol=1e-6)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Less (places, n)", "Less (shifted, n)"),
        ("shown, unfilled", "shown, little"),
        ("masked = Add (row, shift)", "masked = Add (row, bias)"),
        ("Softmax <axis = -1> (masked)", "Softmax <axis = -1> (row)"),
        ("Softmax <axis = -1> (masked)", "Exp (masked)"),
        ("(weights, sizes)", "(weights, uneven)"),
        ("MatMul (of_old, v)", "MatMul (of_old, k)"),
        ("old = MatMul (k, query)", "half = Exp (k) old = MatMul (half, query)"),
        ("found = Add (a, b)", "total = ReduceSum (weights, one) found = Add (a, total)"),
    ],
)
def test_leaves_what_it_cannot_tell(build, old, new):
    assert old in GRAPH
    model = build(GRAPH.replace(old, new), **CONSTANTS)
    expected = 1 if new == "MatMul (of_old, k)" else 0
    assert rewrite(model).count == expected
