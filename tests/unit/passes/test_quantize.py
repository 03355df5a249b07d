"""Static int8: what is quantised, symmetric types, same bytes."""

from __future__ import annotations

import logging

import numpy as np
import onnx_ir as ir
import pytest

from toolkit.core.errors import ExportError
from toolkit.passes._graph import constant, operators
from toolkit.passes._quantize import SCHEMES, SYMMETRIC_SCHEMES, to_int8

TEXT = """
g (float[n,4,8,8] x) => (float[n,2,8,8] y) {
  h = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, w, b)
  a = Relu (h)
  y = Conv <kernel_shape = [1, 1]> (a, v)
}
"""
PRODUCTS, EVERYWHERE = SCHEMES
(SYMMETRIC,) = SYMMETRIC_SCHEMES


@pytest.fixture
def model(build, draw) -> ir.Model:
    return build(
        TEXT,
        w=draw.normal(size=(8, 4, 3, 3)) / 6,
        b=draw.normal(size=8) / 6,
        v=draw.normal(size=(2, 8, 1, 1)) / 3,
    )


@pytest.fixture
def feeds(draw) -> list[dict[str, np.ndarray]]:
    return [{"x": draw.normal(size=(16, 4, 8, 8)).astype(np.float32)} for _ in range(2)]


@pytest.mark.parametrize(
    ("scheme", "products"), [(EVERYWHERE, 2), (PRODUCTS, 1), (SYMMETRIC, 1)], ids=lambda s: str(s)
)
def test_large_products_take_integers(model, feeds, answer, tmp_path, scheme, products) -> None:
    level = logging.getLogger().level
    quantized = to_int8(model, scheme, feeds, tmp_path)
    assert logging.getLogger().level == level
    fed = {
        node.op_type: all(
            value.producer() is not None and value.producer().op_type == "DequantizeLinear"
            for value in node.inputs[:2]
        )
        for node in quantized.graph
        if node.op_type == "Conv"
    }
    counted = sum(
        node.inputs[1].producer() is not None for node in quantized.graph if node.op_type == "Conv"
    )
    assert fed
    assert counted == products
    want, got = answer(model, feeds[0]["x"])[0], answer(quantized, feeds[0]["x"])[0]
    assert 0 < np.abs(got - want).max() < 0.1 * np.abs(want).max()


def test_a_rectifier_becomes_the_range_of_the_product_before_it(model, feeds, tmp_path) -> None:
    assert "Relu" in operators(to_int8(model, SYMMETRIC, feeds, tmp_path))
    assert "Relu" not in operators(to_int8(model, PRODUCTS, feeds, tmp_path))


def test_tensorrt_gets_zero_points_of_zero_and_float_biases(model, feeds, tmp_path) -> None:
    quantized = to_int8(model, SYMMETRIC, feeds, tmp_path)
    for node in quantized.graph:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            zero = constant(node.inputs[2])
            assert zero is not None
            assert zero.dtype == np.int8
            assert not zero.any()


def test_weights_have_a_scale_per_channel(model, feeds, tmp_path) -> None:
    quantized = to_int8(model, PRODUCTS, feeds, tmp_path)
    scales = [
        constant(node.inputs[1]).shape
        for node in quantized.graph
        if node.op_type == "DequantizeLinear" and constant(node.inputs[0]) is not None
    ]
    assert (8,) in scales


@pytest.mark.parametrize("scheme", [*SCHEMES, SYMMETRIC], ids=lambda s: s.name)
def test_the_same_model_gives_the_same_bytes(model, feeds, tmp_path, scheme) -> None:
    first, second = (ir.to_proto(to_int8(model, scheme, feeds, tmp_path)) for _ in range(2))
    assert first.SerializeToString() == second.SerializeToString()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("g (float[n] x) => (float[n] y) { y = Exp (x) }", "no product sums up"),
        (
            """g (float[n,64] x) => (float[n,64] y) {
                 y = Loop (trips, go, x) <body = step (int64 i, bool c, float[n,64] s)
                     => (bool more, float[n,64] next) {
                   more = Identity (c)
                   next = MatMul (s, w)
                 }>
               }""",
            "inside a loop",
        ),
    ],
)
def test_nothing_to_quantise_says_why(build, feeds, tmp_path, text, reason) -> None:
    arrays = {"w": np.eye(64), "trips": np.array(2), "go": np.array(1, bool)}
    model = build(text, **(arrays if "Loop" in text else {}))
    assert set(operators(model)) & {"Exp", "Loop"}
    with pytest.raises(ExportError, match=reason):
        to_int8(model, PRODUCTS, feeds, tmp_path)
