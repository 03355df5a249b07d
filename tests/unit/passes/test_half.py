"""Half precision: what stays float32, explicit types, unchanged names."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from toolkit.core.errors import ExportError
from toolkit.passes._half import PRECISIONS, to_half

HALF, MIXED = PRECISIONS
TEXT = """
g (float[n,64] x) => (float[n] y, float[n,2] z) {
  h = Gemm (x, w)
  a = Relu (h)
  z = Gemm (a, v)
  e = Exp (z)
  s = ReduceSum <keepdims = 0> (e, axes)
  y = Add (s, c)
}
"""


@pytest.fixture
def model(build, draw) -> ir.Model:
    return build(
        TEXT,
        w=draw.normal(size=(64, 64)) / 8,
        v=draw.normal(size=(64, 2)) / 8,
        axes=np.array([1]),
        c=np.array(0.5),
    )


def types(model: ir.Model) -> dict[str, str]:
    return {
        value.name: value.dtype.name
        for node in model.graph
        for value in node.outputs
        if node.op_type != "Cast"
    }


@pytest.mark.parametrize(
    ("precision", "halves"), [(HALF, {"h", "a", "z_half"}), (MIXED, {"h", "a"})]
)
def test_sums_and_tails_stay_in_float32(model, answer, draw, precision, halves) -> None:
    before = ir.to_proto(model).SerializeToString()
    half = to_half(model, precision)
    assert {name for name, kind in types(half).items() if kind == "FLOAT16"} == halves
    assert ir.to_proto(model).SerializeToString() == before
    onnx.checker.check_model(ir.to_proto(half), full_check=True)
    assert [value.name for value in half.graph.outputs] == ["y", "z"]
    assert {value.dtype.name for value in half.graph.outputs} == {"FLOAT"}
    x = draw.normal(size=(5, 64)).astype(np.float32)
    for got, want in zip(answer(half, x), answer(model, x), strict=True):
        np.testing.assert_allclose(got, want, rtol=5e-3, atol=5e-3)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_same_model_gives_the_same_bytes(model, precision) -> None:
    first, second = (ir.to_proto(to_half(model, precision)) for _ in range(2))
    assert first.SerializeToString() == second.SerializeToString()


def test_a_constant_that_overflows_keeps_its_node_in_float32(build, answer) -> None:
    text = """
    g (float[n,64] x) => (float[n,64] y) {
      h = Gemm (x, w)
      y = Mul (h, big)
    }"""
    model = build(text, w=np.eye(64), big=np.array(1e6))
    half = to_half(model, HALF)
    assert types(half) == {"h": "FLOAT16", "y": "FLOAT"}
    x = np.full((1, 64), 0.25, np.float32)
    np.testing.assert_array_equal(answer(half, x)[0], np.full((1, 64), 2.5e5, np.float32))


def test_a_transpose_that_onnx_runtime_would_merge_into_a_product_stays_float32(
    build, answer
) -> None:
    text = """
    g (float[t,n,64] x) => (float[n,t,64] y) {
      r = Relu (x)
      s = Transpose <perm = [1, 0, 2]> (r)
      y = MatMul (s, w)
    }"""
    model = build(text, w=np.eye(64))
    half = to_half(model, HALF)
    assert types(half) == {"r": "FLOAT16", "s": "FLOAT", "y_half": "FLOAT16"}
    x = np.ones((3, 2, 64), np.float32)
    np.testing.assert_array_equal(answer(half, x)[0], np.ones((2, 3, 64), np.float32))


def test_what_a_loop_reads_from_outside_stays_float32(build, answer) -> None:
    text = """
    g (float[n,64] x) => (float[n,64] y) {
      h = Gemm (x, w)
      y = Loop (trips, go, h) <body = step (int64 i, bool c, float[n,64] s)
          => (bool more, float[n,64] next) {
        more = Identity (c)
        next = Add (s, h)
      }>
    }"""
    model = build(text, w=np.eye(64), trips=np.array(3), go=np.array(1, bool))
    half = to_half(model, HALF)
    onnx.checker.check_model(ir.to_proto(half), full_check=True)
    x = np.ones((2, 64), np.float32)
    np.testing.assert_array_equal(answer(half, x)[0], 4 * x)


def test_products_that_all_lie_in_a_loop_are_nothing_to_halve(build) -> None:
    text = """
    g (float[n,64] x) => (float[n,64] y) {
      h = Relu (x)
      y = Loop (trips, go, h) <body = step (int64 i, bool c, float[n,64] s)
          => (bool more, float[n,64] next) {
        more = Identity (c)
        next = Gemm (s, w)
      }>
    }"""
    model = build(text, w=np.eye(64), trips=np.array(3), go=np.array(1, bool))
    with pytest.raises(ExportError, match="inside a loop"):
        to_half(model, HALF)


def test_nothing_to_convert_is_an_error(build) -> None:
    model = build("g (float[n] x) => (float[n] y) { y = Exp (x) }")
    with pytest.raises(ExportError, match="no node computes in half"):
        to_half(model, HALF)
