"""How far kernels are cropped."""

from __future__ import annotations

import numpy as np
import pytest

from toolkit.passes.crop_masked_conv import rewrite

TEXT = """
g (float[n,2,9,9] x) => (float[n,3,h,w] y) {{
  y = Conv <kernel_shape = [5, 5], pads = [{pad}, {pad}, {pad}, {pad}],
            dilations = [{step}, {step}]> (x, k)
}}
"""


@pytest.mark.parametrize(
    ("pad", "step", "kernel", "pads"),
    [
        (2, 1, [3, 4], [2, 2, 0, 1]),
        (1, 1, [4, 4], [1, 1, 0, 0]),
        (4, 2, [3, 4], [4, 4, 0, 2]),
        (3, 2, [4, 4], [3, 3, 1, 1]),
    ],
)
def test_taps_go_as_far_as_the_padding(build, answer, draw, pad, step, kernel, pads) -> None:
    weight = draw.normal(size=(3, 2, 5, 5))
    weight[:, :, 3:] = 0
    weight[..., 4:] = 0
    model = build(TEXT.format(pad=pad, step=step), k=weight)
    x = draw.normal(size=(2, 2, 9, 9)).astype(np.float32)
    before = answer(model, x)
    assert rewrite(model).count == 1
    (conv,) = model.graph
    assert list(conv.attributes["kernel_shape"].as_ints()) == kernel
    assert list(conv.attributes["pads"].as_ints()) == pads
    np.testing.assert_allclose(answer(model, x)[0], before[0], atol=1e-6)


@pytest.mark.parametrize("weight", [np.ones((3, 2, 5, 5)), np.zeros((3, 2, 5, 5))])
def test_full_and_empty_kernels_stay(build, weight) -> None:
    assert rewrite(build(TEXT.format(pad=2, step=1), k=weight)).count == 0


def test_a_kernel_without_padding_stays(build, draw) -> None:
    weight = draw.normal(size=(3, 2, 5, 5))
    weight[:, :, 3:] = 0
    assert rewrite(build(TEXT.format(pad=0, step=1), k=weight)).count == 0
