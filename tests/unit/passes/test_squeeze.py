"""Which reshapes and transposes become pixel shuffles."""

from __future__ import annotations

import numpy as np
import pytest

from toolkit.passes.squeeze import rewrite

TEXT = """
g (float[n,{c},4,6] x) => (float[n,{out},{h},{w}] y) {{
  a = Reshape (x, inner)
  b = Transpose <perm = {perm}> (a)
  y = Reshape (b, outer)
}}
"""


def make(build, *, channels: int, inner: list[int], perm: list[int], outer: list[int]):
    out, h, w = outer[1:]
    text = TEXT.format(c=channels, out=out, h=h, w=w, perm=perm)
    return build(text, inner=np.array(inner), outer=np.array(outer))


def test_one_channel_needs_no_reordering(build, answer, draw) -> None:
    model = make(
        build,
        channels=1,
        inner=[-1, 1, 2, 2, 3, 2],
        perm=[0, 1, 3, 5, 2, 4],
        outer=[-1, 4, 2, 3],
    )
    x = draw.normal(size=(2, 1, 4, 6)).astype(np.float32)
    before = answer(model, x)
    assert rewrite(model).count == 1
    assert [node.op_type for node in model.graph] == ["SpaceToDepth"]
    np.testing.assert_array_equal(answer(model, x)[0], before[0])


@pytest.mark.parametrize(
    ("channels", "inner", "perm", "outer"),
    [
        (2, [-1, 2, 2, 2, 3, 2], [0, 1, 3, 5, 2, 4], [-1, 8, 2, 3]),
        (1, [-1, 1, 2, 2, 2, 3], [0, 1, 3, 5, 2, 4], [-1, 6, 2, 2]),
        (1, [-1, 1, 2, 2, 3, 2], [0, 1, 5, 3, 2, 4], [-1, 4, 2, 3]),
        (1, [-1, 1, 2, 2, 3, 2], [0, 1, 3, 5, 2, 4], [-1, 2, 4, 3]),
    ],
    ids=["no convolution to reorder", "uneven block", "other order", "other shape"],
)
def test_other_shuffles_stay(build, channels, inner, perm, outer) -> None:
    model = make(build, channels=channels, inner=inner, perm=perm, outer=outer)
    assert rewrite(model).count == 0
