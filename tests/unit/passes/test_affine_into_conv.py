"""What is folded into a linear node, how exactly, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from toolkit.passes._graph import operators
from toolkit.passes.affine_into_conv import rewrite

BEFORE = """
g (float[n,4,5,5] x) => (float[n,3,{side},{side}] y) {{
  a = Add (x, shift)
  b = Mul (a, scale)
  y = Conv <kernel_shape = [3, 3], pads = [{pad}, {pad}, {pad}, {pad}]> (b, w)
}}
"""


def test_a_chain_is_rounded_once(build, draw) -> None:
    shift, scale = (draw.normal(size=(1, 4, 1, 1)).astype(np.float32) for _ in range(2))
    w = draw.normal(size=(3, 4, 3, 3)).astype(np.float32)
    text = (
        BEFORE.format(side=3, pad=0)
        .replace("y = Conv", "c = Conv")
        .replace("\n}", "\n  d = Mul (c, factor)\n  y = Sub (d, offset)\n}")
    )
    factor, offset = (draw.normal(size=(3, 1, 1)).astype(np.float32) for _ in range(2))
    model = build(text, shift=shift, scale=scale, w=w, factor=factor, offset=offset)
    assert rewrite(model).count == 1
    (conv,) = model.graph
    wide = w.astype(np.float64)
    weight = wide * scale.astype(np.float64) * factor.astype(np.float64).reshape(-1, 1, 1, 1)
    moved = (shift.astype(np.float64) * scale.astype(np.float64) * wide).sum((1, 2, 3))
    bias = moved * factor.reshape(-1) - offset.reshape(-1)
    np.testing.assert_array_equal(conv.inputs[1].const_value.numpy(), weight.astype(np.float32))
    np.testing.assert_array_equal(conv.inputs[2].const_value.numpy(), bias.astype(np.float32))


def test_a_shift_stays_before_a_padded_convolution(build, draw) -> None:
    arrays = {
        "shift": draw.normal(size=(1, 4, 1, 1)),
        "scale": draw.normal(size=(1, 4, 1, 1)),
        "w": draw.normal(size=(3, 4, 3, 3)),
    }
    model = build(BEFORE.format(side=5, pad=1), **arrays)
    assert rewrite(model).count == 1
    assert operators(model) == {"Add": 1, "Conv": 1}


@pytest.mark.parametrize(
    ("text", "shapes"),
    [
        ("y = Add (h, c)", {"c": (3, 5, 5)}),
        ("y = Mul (h, c)", {"c": (2, 1, 1, 1, 1)}),
        ("z = Mul (h, c) \n y = Add (z, h)", {"c": (1, 3, 1, 1)}),
        ("y = Div (c, h)", {"c": (1, 3, 1, 1)}),
    ],
    ids=["varies in space", "adds an axis", "also read elsewhere", "divides by the data"],
)
def test_what_is_no_scale_per_channel_stays(build, draw, text, shapes) -> None:
    rank = "float[2,n,3,5,5]" if "(2," in str(shapes) else "float[n,3,5,5]"
    body = f"""
    g (float[n,4,5,5] x) => ({rank} y) {{
      h = Conv <kernel_shape = [1, 1]> (x, w)
      {text}
    }}"""
    arrays = {name: draw.uniform(1, 2, size=shape) for name, shape in shapes.items()}
    model = build(body, w=draw.normal(size=(3, 4, 1, 1)), **arrays)
    assert rewrite(model).count == 0


def test_a_shared_weight_is_not_copied(build, draw) -> None:
    text = """
    g (float[n,4] x) => (float[n,4] y, float[n,4] z) {
      a = Gemm (x, w)
      y = Mul (a, c)
      z = Gemm (y, w)
    }"""
    model = build(text, w=draw.normal(size=(4, 4)), c=np.array(2.0))
    assert rewrite(model).count == 0


def test_parts_of_a_split_are_folded_into_their_channels(build, answer, draw) -> None:
    text = """
    g (float[n,4] x) => (float[n,2] y, float[n,4] z) {
      h = Gemm <transB = 1> (x, w, b)
      y, raw = Split <axis = -1> (h, sizes)
      n = Neg (raw)
      z = Sub (one, n)
    }"""
    arrays = {"w": draw.normal(size=(6, 4)), "b": draw.normal(size=6), "one": np.array(1.0)}
    model = build(text, sizes=np.array([2, 4]), **arrays)
    x = draw.normal(size=(5, 4)).astype(np.float32)
    before = answer(model, x)
    assert rewrite(model).count == 1
    assert operators(model) == {"Gemm": 1, "Split": 1}
    assert [value.name for value in model.graph.outputs] == ["y", "z"]
    for got, want in zip(answer(model, x), before, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-6)


def test_a_matrix_product_takes_a_scale_and_leaves_the_shift(build, draw) -> None:
    text = """
    g (float[n,7,4] x) => (float[n,7,3] y) {
      a = Mul (x, c)
      h = MatMul (a, w)
      y = Add (h, b)
    }"""
    model = build(text, w=draw.normal(size=(4, 3)), c=draw.normal(size=4), b=draw.normal(size=3))
    assert rewrite(model).count == 1
    assert operators(model) == {"MatMul": 1, "Add": 1}
