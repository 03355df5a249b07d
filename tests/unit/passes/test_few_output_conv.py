"""Which convolutions become transposed ones."""

from __future__ import annotations

import pytest

from toolkit.passes.few_output_conv import rewrite


@pytest.mark.parametrize(
    ("outputs", "inputs", "side", "more", "taken"),
    [
        (4, 16, 3, "", True),
        (12, 64, 3, "", True),
        (12, 32, 3, "", False),
        (24, 64, 3, "", False),
        (12, 32, 5, "", True),
        (4, 64, 1, "", False),
        (4, 64, 3, ", strides = [2, 2]", False),
        (4, 64, 3, ", dilations = [2, 2]", False),
    ],
)
def test_the_measured_rule_decides(build, draw, outputs, inputs, side, more, taken) -> None:
    text = f"""
    g (float[n,{inputs},8,8] x) => (float[n,{outputs},h,w] y) {{
      y = Conv <kernel_shape = [{side}, {side}]{more}> (x, k)
    }}"""
    model = build(text, k=draw.normal(size=(outputs, inputs, side, side)))
    assert bool(rewrite(model).count) == taken


def test_a_pad_wider_than_the_kernel_is_left(build, draw) -> None:
    text = """
    g (float[n,16,8,8] x) => (float[n,4,h,w] y) {
      y = Conv <kernel_shape = [3, 3], pads = [3, 3, 3, 3]> (x, k)
    }"""
    assert rewrite(build(text, k=draw.normal(size=(4, 16, 3, 3)))).count == 0
