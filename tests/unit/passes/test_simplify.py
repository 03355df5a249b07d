"""Control flow is not evaluated; OnnxSlim's loss of metadata is made good."""

from __future__ import annotations

import numpy as np

from toolkit.passes._graph import operators
from toolkit.passes.simplify import rewrite as simplify
from toolkit.passes.slim import rewrite as slim

ENDLESS = """
g () => (float[1] y) {
  y = Loop (trips, go, start) <body = step (int64 i, bool c, float[1] s)
      => (bool more, float[1] next) {
    more = Identity (c)
    next = Add (s, s)
  }>
}
"""


def test_a_loop_over_constants_is_not_run(build) -> None:
    model = build(ENDLESS, trips=np.array(10**15), go=np.array(1, bool), start=np.ones(1))
    simplify(model)
    assert operators(model)["Loop"] == 1


def test_slim_keeps_the_metadata_of_what_stays(build) -> None:
    text = """
    g (float[n,6] x) => (float[n,2,3] z) {
      a = Relu (x)
      b = Reshape (a, three_two)
      z = Reshape (b, two_three)
    }"""
    model = build(text, three_two=np.array([-1, 3, 2]), two_three=np.array([-1, 2, 3]))
    assert slim(model).count == 1
    assert [node.metadata_props["namespace"] for node in model.graph] == ["module.a", "module.z"]
