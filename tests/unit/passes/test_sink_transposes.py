"""Which Transposes vanish behind elementwise operators, and which stay."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from toolkit.passes.sink_transposes import rewrite


def names(graph) -> list[str]:
    return [node.op_type for node in graph]


def check(model, answer, *values: np.ndarray, count: int) -> None:
    """Assert that the pass changes so many places, and no value."""
    before = answer(model, *values)
    assert rewrite(model).count == count
    for got, want in zip(answer(model, *values), before, strict=True):
        np.testing.assert_array_equal(got, want)


def test_what_lies_between_two_transposes_works_in_the_other_order(build, answer, draw) -> None:
    model = build(
        """g (float[n,3,4] x) => (float[n,3,4] y) {
          t = Transpose <perm = [1, 2, 0]> (x)
          moved = Add (t, bias)
          scaled = Mul (row, moved)
          a, b = Split <axis = 1> (scaled, sizes)
          c = Elu (a)
          joined = Concat <axis = -2> (b, c)
          y = Transpose <perm = [2, 0, 1]> (joined)
        }""",
        bias=draw.normal(size=(3, 4, 1)),
        row=draw.normal(size=(4, 1)),
        sizes=np.array([1, 3]),
    )
    check(model, answer, draw.normal(size=(5, 3, 4)).astype(np.float32), count=1)
    assert names(model.graph) == ["Add", "Mul", "Split", "Elu", "Concat"]


def test_operands_of_one_order_lose_their_transposes_together(build, answer, draw) -> None:
    model = build(
        """g (float[n,3,4] x, float[n,3,1] u) => (float[3,4,n] y, float[n,4,3] z) {
          tx = Transpose <perm = [1, 2, 0]> (x)
          tu = Transpose <perm = [1, 2, 0]> (u)
          small = Less (tx, tu)
          chosen = Where (small, tx, half)
          z = Transpose <perm = [2, 1, 0]> (chosen)
          y = Softmax <axis = 0> (chosen)
        }""",
        half=np.array(0.5),
    )
    x, u = (draw.normal(size=(5, 3, size)).astype(np.float32) for size in (4, 1))
    check(model, answer, x, u, count=1)
    assert names(model.graph).count("Transpose") == 2


@pytest.mark.parametrize(
    ("perm", "target", "left"),
    [
        ([0, 3, 1, 2], [-1, 4, 3], ["Transpose", "Tanh"]),
        ([3, 0, 1, 2], [4, -1, 3], ["Transpose", "Tanh"]),
        ([0, 1, 2, 3], [-1, 3, 4], ["Tanh"]),
        ([0, 2, 1, 3], [-1, 3, 4], ["Tanh"]),
        ([0, 3, 1, 2], [-1, 3, 4], ["Transpose", "Unsqueeze", "Reshape", "Tanh"]),
        ([3, 0, 1, 2], [-1, 4, 3], ["Transpose", "Unsqueeze", "Reshape", "Tanh"]),
        ([0, 3, 1, 2], [-1, 12], ["Transpose", "Unsqueeze", "Reshape", "Tanh"]),
    ],
    ids=["turned", "to the front", "in order", "a one moves", "mixed", "mixed batch", "joined"],
)
def test_axes_of_size_one_around_a_transpose_go(build, answer, draw, perm, target, left) -> None:
    sizes = ",".join("n" if size < 0 else str(size) for size in target)
    model = build(
        f"""g (float[n,3,4] x) => (float[{sizes}] z) {{
          a = Unsqueeze (x, place)
          b = Transpose <perm = {perm}> (a)
          y = Reshape (b, target)
          z = Tanh (y)
        }}""",
        place=np.array([1]),
        target=np.array(target),
    )
    values = draw.normal(size=(5, 3, 4)).astype(np.float32)
    check(model, answer, values, count=1)
    assert names(model.graph) == left


def test_axes_of_size_one_between_layers_of_each_feature_go(build, answer, draw) -> None:
    model = build(
        """g (float[3,m,4] x) => (float[3,m,4] y) {
          a = Reshape (x, wide)
          b = Transpose <perm = [1, 2, 0, 4, 3]> (a)
          c = Reshape (b, rows)
          d = Add (c, bias)
          e = Elu (d)
          f = Unsqueeze (e, last)
          g = Transpose <perm = [2, 0, 1, 3, 4]> (f)
          y = Reshape (g, back)
        }""",
        wide=np.array([3, 2, -1, 1, 4]),
        rows=np.array([2, -1, 3, 4]),
        bias=draw.normal(size=(3, 4)),
        last=np.array([4]),
        back=np.array([3, -1, 4]),
    )
    for name, shape in {
        "a": [3, 2, "n", 1, 4],
        "b": [2, "n", 3, 4, 1],
        "c": [2, "n", 3, 4],
        "d": [2, "n", 3, 4],
        "e": [2, "n", 3, 4],
        "f": [2, "n", 3, 4, 1],
        "g": [3, 2, "n", 4, 1],
    }.items():
        (value,) = (v for node in model.graph for v in node.outputs if v.name == name)
        value.shape = ir.Shape(shape)
    check(model, answer, draw.normal(size=(3, 10, 4)).astype(np.float32), count=3)
    assert names(model.graph) == ["Reshape", "Squeeze", "Add", "Elu", "Unsqueeze", "Reshape"]


@pytest.mark.parametrize(
    "between",
    [
        "m = Softmax <axis = 1> (t)",
        "m = ReduceSum <keepdims = 1> (t, axis)",
        "s = Tanh (t)  m = Mul (s, x)",
        "m = MatMul (t, x)",
    ],
)
def test_other_operators_stay_between(build, answer, draw, between) -> None:
    model = build(
        f"""g (float[4,4] x) => (float[n,m] z) {{
          t = Transpose <perm = [1, 0]> (x)
          {between}
          u = Transpose <perm = [1, 0]> (m)
          z = Tanh (u)
        }}""",
        axis=np.array([1]),
    )
    before = answer(model, values := draw.normal(size=(4, 4)).astype(np.float32))
    rewrite(model)
    np.testing.assert_array_equal(answer(model, values)[0], before[0])
    assert "Transpose" in names(model.graph)


def test_a_loop_may_read_what_is_turned_outside(build, answer, draw) -> None:
    model = build(
        """g (float[n,3] x) => (float[n,3] y) {
          tx = Transpose <perm = [1, 0]> (x)
          a = Exp (tx)
          back = Transpose <perm = [1, 0]> (a)
          y = Loop (trips, go, back) <body = step (int64 i, bool c, float[n,3] state)
              => (bool more, float[n,3] next) {
            more = Identity (c)
            inner = Transpose <perm = [1, 0]> (state)
            sum = Add (inner, a)
            tanh = Tanh (sum)
            out = Transpose <perm = [1, 0]> (tanh)
            next = Mul (out, half)
          }>
        }""",
        trips=np.array(3),
        go=np.array(True),
        half=np.array(0.5),
    )
    before = answer(model, values := draw.normal(size=(5, 3)).astype(np.float32))
    assert rewrite(model).count
    np.testing.assert_allclose(answer(model, values)[0], before[0], rtol=1e-6)
