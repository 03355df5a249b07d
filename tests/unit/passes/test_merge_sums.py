"""Constants of sums: merged in float64, with their signs and shapes."""

from __future__ import annotations

import numpy as np
import pytest

from toolkit.passes._graph import operators
from toolkit.passes.merge_sums import rewrite

NEGATIVE = """
g (float[n] x, float[n] y) => (float[n] z) {
  a = Neg (x)
  b = Sub (a, y)
  c = Add (b, p)
  z = Sub (q, c)
}
"""


def test_signs_are_followed_through_sub_and_neg(build, answer) -> None:
    model = build(NEGATIVE, p=np.array(0.25), q=np.array(1.0))
    x, y = np.float32([1, 2]), np.float32([10, 20])
    assert rewrite(model).count == 1
    assert operators(model) == {"Add": 2}
    np.testing.assert_array_equal(answer(model, x, y)[0], np.float32([11.75, 22.75]))


def test_a_sum_of_negative_terms_is_negated_once(build, answer) -> None:
    text = """
    g (float[n] x, float[n] y) => (float[n] z) {
      a = Neg (x)
      b = Neg (y)
      c = Add (a, b)
      d = Add (c, p)
      z = Sub (d, p)
    }"""
    model = build(text, p=np.array(0.25))
    assert rewrite(model).count == 1
    assert operators(model) == {"Add": 1, "Neg": 1}
    np.testing.assert_array_equal(answer(model, np.float32([1]), np.float32([2]))[0], [-3])


def test_constants_are_added_in_float64(build) -> None:
    text = """
    g (float[n] x) => (float[n] z) {
      a = Add (x, big)
      b = Add (a, small)
      z = Sub (b, big)
    }"""
    model = build(text, big=np.array(1e8), small=np.array(0.5))
    assert rewrite(model).count == 1
    (node,) = model.graph
    assert node.inputs[1].const_value.numpy() == np.float32(0.5)


def test_a_term_is_never_spread_before_its_time(build, answer) -> None:
    text = """
    g (float[1] s, float[n] x) => (float[n] z) {
      a = Add (p, s)
      b = Add (a, x)
      z = Add (b, q)
    }"""
    model = build(text, p=np.array(0.5), q=np.array(1.5))
    rewrite(model)
    z = answer(model, np.float32([1]), np.float32([1, 2]))[0]
    np.testing.assert_array_equal(z, np.float32([4, 5]))


@pytest.mark.parametrize("name", ["outer product of constants", "nothing but constants"])
def test_a_sum_that_would_grow_or_has_no_terms_stays(build, name) -> None:
    text = """
    g (float[3,2] x) => (float[3,2] z) {
      a = Add (x, p)
      z = Add (a, q)
    }"""
    constants = {
        "outer product of constants": {"p": np.ones((3, 1)), "q": np.ones((1, 2))},
        "nothing but constants": {
            "x2": np.ones((3, 2)),
            "p": np.ones((3, 1)),
            "q": np.ones((3, 2)),
        },
    }[name]
    if name == "nothing but constants":
        text = text.replace("Add (x, p)", "Add (x2, p)")
    before = operators(model := build(text, **constants))
    assert rewrite(model).count == 0
    assert operators(model) == before
