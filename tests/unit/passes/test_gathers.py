"""What a layer puts somewhere the next one reads directly; anything else stays."""

from __future__ import annotations

import numpy as np
import pytest

from toolkit.passes.gathers import rewrite

HALVES = """g (float[4,n] x, float[2,n] a, float[2,n] b) => (float[4,n] y) {
  first = ScatterND (x, even, a)
  same = Identity (first)
  y = ScatterND (same, odd, b)
}"""
X, A, B = (
    np.random.default_rng(i).normal(size=(n, 3)).astype("f") for i, n in enumerate((4, 2, 2))
)
EVEN, ODD = np.array([[0], [2]]), np.array([[1], [-1]])


def operators(model) -> list[str]:
    return [node.op_type for node in model.graph]


def test_halves_that_are_written_are_put_side_by_side(build, answer) -> None:
    model = build(HALVES, even=EVEN, odd=ODD)
    before = answer(model, X, A, B)[0]
    assert rewrite(model).count == 1
    assert operators(model) == ["Concat", "Gather"]
    np.testing.assert_array_equal(answer(model, X, A, B)[0], before)


def test_what_is_written_twice_is_the_later_one(build, answer) -> None:
    text = HALVES.replace("float[2,n] b", "float[3,n] b")
    model = build(text, even=EVEN, odd=np.array([[1], [3], [2]]))
    last = np.concatenate([B, A[:1]])
    before = answer(model, X, A, last)[0]
    assert rewrite(model).count
    np.testing.assert_array_equal(answer(model, X, A, last)[0], before)


def test_rows_that_nothing_overwrites_keep_the_chain(build) -> None:
    assert rewrite(build(HALVES, even=EVEN, odd=EVEN)).count == 0


def test_a_sum_of_updates_is_kept(build) -> None:
    summed = HALVES.replace("y = ScatterND", 'y = ScatterND <reduction = "add">')
    assert rewrite(build(summed, even=EVEN, odd=ODD)).count == 0


@pytest.mark.parametrize("places", [[3, -1, 2], [1, 2]])
def test_a_gather_reads_where_the_features_come_from(build, answer, places) -> None:
    text = """g (float[n,2] a, float[n,2] b) => (float[n,k] y) {
      joined = Concat <axis = -1> (a, b)
      turned = Gather <axis = 1> (joined, turn)
      taken = Gather <axis = -1> (turned, places)
      y = Exp (taken)
    }"""
    model = build(text, turn=np.array([2, 0, 3, 1]), places=np.array(places))
    before = answer(model, A.T[:, :2], B.T[:, :2])[0]
    assert rewrite(model).count
    assert operators(model) == ["Concat", "Gather", "Exp"]
    np.testing.assert_array_equal(answer(model, A.T[:, :2], B.T[:, :2])[0], before)


def test_what_one_part_holds_in_order_needs_no_gather(build, answer) -> None:
    text = """g (float[n,2] a, float[n,2] b) => (float[n,2] y) {
      joined = Concat <axis = 1> (a, b)
      turned = Gather <axis = 1> (joined, turn)
      taken = Gather <axis = 1> (turned, places)
      y = Exp (taken)
    }"""
    model = build(text, turn=np.array([2, 0, 3, 1]), places=np.array([0, 2]))
    before = answer(model, A.T[:, :2], B.T[:, :2])[0]
    rewrite(model)
    assert operators(model) == ["Exp"]
    np.testing.assert_array_equal(answer(model, A.T[:, :2], B.T[:, :2])[0], before)


def test_an_output_keeps_its_name(build, answer) -> None:
    text = "g (float[n,2] a) => (float[n,2] y) { y = Gather <axis = 1> (a, places) }"
    model = build(text, places=np.array([0, 1]))
    assert rewrite(model).count == 0
    assert model.graph.outputs[0].name == "y"
