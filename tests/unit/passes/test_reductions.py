"""What leaves a ReduceSum, and which ReduceSums are joined."""

from __future__ import annotations

import numpy as np
import pytest

from toolkit.passes._graph import operators
from toolkit.passes.hoist_from_sums import rewrite as hoist
from toolkit.passes.merge_reductions import rewrite as merge

SUM = """
g (float[n,3,{size}] x) => (float[n] y) {{
  a = {inner}
  y = ReduceSum <keepdims = 0> (a, axes)
}}
"""


@pytest.mark.parametrize(
    ("inner", "size", "expected"),
    [
        ("Add (x, c)", 4, {"ReduceSum": 1, "Add": 1}),
        ("Sub (x, per_column)", 4, {"ReduceSum": 1, "Sub": 1}),
        ("Mul (x, c)", 4, {"ReduceSum": 1, "Mul": 1}),
        ("Mul (x, x)", 4, {"ReduceSumSquare": 1}),
        ("Neg (x)", 4, {"ReduceSum": 1, "Neg": 1}),
    ],
)
def test_what_sums_share_is_applied_once(build, answer, draw, inner, size, expected) -> None:
    arrays = {"axes": np.array([1, 2]), "c": np.array(0.5), "per_column": draw.normal(size=4)}
    model = build(SUM.format(inner=inner, size=size), **arrays)
    x = draw.normal(size=(2, 3, 4)).astype(np.float32)
    before = answer(model, x)
    assert hoist(model).count == 1
    assert operators(model) == expected
    np.testing.assert_allclose(answer(model, x)[0], before[0], rtol=1e-5)


@pytest.mark.parametrize(
    ("inner", "size"),
    [("Add (x, c)", "k"), ("Sub (c, x)", 4), ("Mul (x, per_column)", 4)],
    ids=["unknown count", "subtracted from", "factor varies"],
)
def test_what_varies_stays_inside(build, draw, inner, size) -> None:
    arrays = {"axes": np.array([1, 2]), "c": np.array(0.5), "per_column": draw.normal(size=4)}
    assert hoist(build(SUM.format(inner=inner, size=size), **arrays)).count == 0


@pytest.mark.parametrize(("members", "joined"), [(2, 0), (3, 1)])
def test_three_reductions_of_one_shape_are_joined(build, answer, draw, members, joined) -> None:
    inputs = ", ".join(f"float[n,2,4] x{i}" for i in range(members))
    lines = [
        f"l{i} = Log (x{i}) \n r{i} = ReduceSum <keepdims = 0> (l{i}, axes)" for i in range(members)
    ]
    lines += [f"s{i} = Add ({f's{i - 1}' if i > 1 else 'r0'}, r{i})" for i in range(1, members)]
    text = f"g ({inputs}) => (float[n] s{members - 1}) {{ {' '.join(lines)} }}"
    model = build(text, axes=np.array([1, 2]))
    values = [draw.uniform(1, 2, size=(3, 2, 4)).astype(np.float32) for _ in range(members)]
    before = answer(model, *values)
    assert merge(model).count == joined
    if joined:
        assert operators(model) == {"Concat": 1, "Log": 1, "ReduceSum": 1}
    np.testing.assert_allclose(answer(model, *values)[0], before[0], rtol=1e-5)
