"""Parameters that lie side by side come from the layer one kind after the other."""

from __future__ import annotations

import numpy as np
import pytest

from toolkit.passes.unstack import rewrite

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(3, 5)).astype("f")
CONSTANTS = {
    "w": DRAW.normal(size=(8, 5)).astype("f"),
    "wt": DRAW.normal(size=(5, 8)).astype("f"),
    "b": DRAW.normal(size=8).astype("f"),
    "pairs": np.array([-1, 4, 2]),
    "ones": np.array([1, 1]),
    "grid": np.array([-1, 2, 2, 2]),
    "last": np.array([-1]),
    "i": np.array(0),
    "j": np.array(-1),
    "other": np.array([0, 1]),
}
LAYER = "h = Gemm <transB = 1> (x, w, b) p = Reshape (h, pairs) "
SPLIT = (
    "s, t = Split <axis = 2> (p, ones) u = Squeeze (s, last) v = Squeeze (t, last) y = Div (u, v)"
)
GATHER = "u = Gather <axis = 2> (p, i) v = Gather <axis = -1> (p, j) y = Div (u, v)"
KNOWN = "<float[n,4,2] p, float[n,4,2] p2, float[n,2,2,2] g>"


def text(body: str, shape: str = "n, 4") -> str:
    return f"g (float[n,5] x) => (float[{shape}] y) {KNOWN} {{ {body} }}"


@pytest.mark.parametrize("layer", [LAYER, LAYER.replace("<transB = 1> (x, w, b)", "(x, wt)")])
@pytest.mark.parametrize("taken", [SPLIT, GATHER])
def test_they_are_pieces_of_the_output(build, answer, layer, taken) -> None:
    model = build(text(layer + taken), **CONSTANTS)
    before = answer(model, X)[0]
    assert rewrite(model).count == 1
    assert [node.op_type for node in model.graph][:2] == ["Gemm", "Split"]
    assert "Gather" not in [node.op_type for node in model.graph]
    np.testing.assert_array_equal(answer(model, X)[0], before)


def test_layers_that_share_weights_still_do(build, answer) -> None:
    again = "h2 = Gemm <transB = 1> (xx, w, b) p2 = Reshape (h2, pairs) "
    second = "u2 = Gather <axis = 2> (p2, i) v2 = Gather <axis = 2> (p2, j) z = Div (u2, v2)"
    first = GATHER.replace("y = ", "d = ")
    model = build(
        text(LAYER + first + " xx = Exp (x) " + again + second + " y = Add (d, z)"), **CONSTANTS
    )
    before = answer(model, X)[0]
    assert rewrite(model).count == 2
    assert sum(value.shape == (8, 5) for value in model.graph.initializers.values()) == 1
    np.testing.assert_array_equal(answer(model, X)[0], before)


def test_more_axes_of_features_are_given_back(build, answer) -> None:
    body = LAYER.replace("pairs", "grid") + GATHER.replace("axis = 2", "axis = 3")
    body = body.replace("p = ", "g = ").replace("(p", "(g")
    model = build(text(body, "n, 2, 2"), **CONSTANTS)
    before = answer(model, X)[0]
    assert rewrite(model).count == 1
    np.testing.assert_array_equal(answer(model, X)[0], before)


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        (
            LAYER + "u = Gather <axis = 2> (p, i) q = Exp (p) y = Gather <axis = 2> (q, j)",
            "n, 4",
        ),
        (LAYER + "y = Gather <axis = 2> (p, other)", "n, 4, 2"),
        (LAYER + "y = Gather <axis = 1> (p, i)", "n, 2"),
        (LAYER.replace("w, b", "x, b") + GATHER, "n, 4"),
    ],
)
def test_what_is_taken_otherwise_stays(build, body, shape) -> None:
    assert rewrite(build(text(body, shape), **CONSTANTS)).count == 0
