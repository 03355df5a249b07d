"""What one loop body alone reads becomes its own; what others read too stays."""

from __future__ import annotations

import numpy as np

from toolkit.passes.sink_weights import rewrite

TEXT = """g (float[2, 3] x) => (float[2, 3] y) {
  y = Loop (count, , x) <body = outer (int64 i, bool on, float[2, 3] a)
    => (bool go, float[2, 3] b) {
    go = Identity (on)
    shifted = Add (a, both)
    b = Loop (count, , shifted) <body = inner (int64 j, bool up, float[2, 3] c)
      => (bool still, float[2, 3] d) {
      still = Identity (up)
      product = MatMul (c, weight)
      d = Add (product, both)
    }>
  }>
}"""


def test_a_weight_goes_to_the_only_body_that_reads_it(build, answer) -> None:
    draws = np.random.default_rng(0)
    weight, both = draws.normal(size=(3, 3)).astype("f") / 3, draws.normal(size=3).astype("f")
    model = build(TEXT, weight=weight, both=both, count=np.array(2))
    x = draws.normal(size=(2, 3)).astype("f")
    before = answer(model, x)[0]
    assert rewrite(model).count == 1
    assert sorted(model.graph.initializers) == ["both", "count"]
    (inner,) = [graph for graph in model.graphs() if graph.name == "inner"]
    assert list(inner.initializers) == ["weight"]
    np.testing.assert_allclose(answer(model, x)[0], before, rtol=1e-6)
    assert rewrite(model).count == 0
