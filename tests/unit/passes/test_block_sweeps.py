"""A loop that sweeps over all features of a triangular map becomes loops over blocks of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from toolkit.passes import block_sweeps
from toolkit.passes.block_sweeps import rewrite

FEATURES, EACH = 8, 3
UNITS = np.repeat(np.arange(FEATURES), EACH)
STOP = "q = Equal (next, x) n = Cast <to = 1> (q) l = ReduceMin <keepdims = 0> (n)"
NET = """
  a = Gemm (x, w, b) h = Tanh (a) k = Gemm (h, u) r = Add (h, k) g = Relu (r)
  p = Gemm (g, v, c) t, s = Split <axis = 1, num_outputs = 2> (p)
  e = Exp (s) m = Mul (z, e) next = Add (m, t)
"""
Arrays = dict[str, np.ndarray]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_sweeps, "FEATURES", 2)
    monkeypatch.setattr(block_sweeps, "WEIGHTS", 1)


def text(net: str = NET, stop: str = f"{STOP} more = Less (l, one)") -> str:
    return f"""
sweeps (float[n,{FEATURES}] z, float[n,2] given) => (float[n,{FEATURES}] y) {{
  size = Shape (z)
  begin = Expand (zero, size)
  y = Loop (trips, go, begin) <body = sweep
      (int64 i, bool was, float[n,{FEATURES}] x) => (bool more, float[n,{FEATURES}] next)
      {{ {net} {stop} }}>
}}
"""


def arrays(order: np.ndarray | None = None, **others: np.ndarray) -> Arrays:
    """Return the weights of a masked network, whose features depend on those before in `order`."""
    draw = np.random.default_rng(0)
    place = np.argsort(np.arange(FEATURES) if order is None else order)
    first = place[:, None] <= UNITS
    inner = UNITS[:, None] <= UNITS
    last = UNITS[:, None] < np.tile(place, 2)
    return {
        "zero": np.array(0.0),
        "one": np.array(1.0),
        "trips": np.array(FEATURES),
        "go": np.array(True),
        "w": draw.normal(size=first.shape) * first,
        "b": draw.normal(size=len(UNITS)),
        "u": 0.3 * draw.normal(size=inner.shape) * inner,
        "v": 0.3 * draw.normal(size=last.shape) * last,
        "c": 0.3 * draw.normal(size=2 * FEATURES),
        **others,
    }


def feeds() -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(1)
    return tuple(draw.normal(size=(5, size)).astype(np.float32) for size in (FEATURES, 2))


def loops(model: ir.Model) -> int:
    return sum(node.op_type == "Loop" for node in model.graph)


def holds(model: ir.Model, answer: Callable, blocks: int = 4) -> None:
    """Check that the cut loop has so many blocks and the same answer."""
    before = answer(model, *feeds())[0]
    assert rewrite(model).count == 1
    assert loops(model) == blocks
    np.testing.assert_allclose(answer(model, *feeds())[0], before, rtol=1e-5, atol=1e-5)


ORDERS = {
    "forwards": np.arange(FEATURES),
    "backwards": np.arange(FEATURES)[::-1],
    "mixed": np.array([3, 0, 6, 1, 7, 4, 2, 5]),
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_the_answer_is_that_of_the_whole_sweep(build, answer, order) -> None:
    holds(build(text(), **arrays(order)), answer)


def test_a_block_reads_only_weights_of_its_own(build) -> None:
    model = build(text(), **arrays())
    rewrite(model)
    read = [
        node.inputs[1].const_value.size
        for loop in model.graph
        if loop.op_type == "Loop"
        for node in loop.attributes["body"].as_graph()
        if node.op_type == "Gemm"
    ]
    whole = 3 * FEATURES * EACH * FEATURES + (EACH * FEATURES) ** 2
    assert sum(read) <= whole / 4 + FEATURES * EACH


def test_a_loop_without_a_test_for_its_end_has_none_afterwards(build, answer) -> None:
    model = build(text(stop="more = Identity (was)"), **arrays())
    holds(model, answer)
    assert not any(node.op_type == "Equal" for node in model.graph.all_nodes())


NETS = {
    "a context is joined on": "j = Concat <axis = 1> (x, given) a = Gemm (j, wide, b) h = Relu (a)"
    " p = Gemm (h, v) t, s = Split <axis = 1, num_outputs = 2> (p) m = Mul (z, s)"
    " next = Add (m, t)",
    "a context is added, per unit and as one number": "d = Gemm (given, few, b) a = Gemm (x, w, d)"
    " h = Relu (a) f = Mul (h, half) p = Gemm (f, v) t, s = Split <axis = 1, num_outputs = 2> (p)"
    " m = Mul (z, s) next = Sub (m, t)",
    "kinds lie side by side": "a = MatMul (x, w) h = Relu (a) p = Gemm (h, v)"
    " s = Gather <axis = 1> (p, second) t = Gather <axis = 1> (p, first) m = Mul (z, s)"
    " k = Clip (m, low, high) next = Add (k, t)",
    "what is added depends on the features": "a = Gemm (x, w, b) h = Relu (a)"
    " k = Gemm (h, u, a) g = Tanh (k) p = Gemm (g, v)"
    " t, s = Split <axis = 1, num_outputs = 2> (p) m = Mul (z, s) next = Add (m, t)",
}


@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
def test_networks_of_other_forms_are_cut_too(build, answer, net) -> None:
    draw = np.random.default_rng(2)
    known = arrays()
    others = {
        "wide": np.concatenate([known["w"], draw.normal(size=(2, len(UNITS)))]),
        "few": draw.normal(size=(2, len(UNITS))),
        "half": np.array(0.5),
        "first": np.arange(FEATURES),
        "second": np.arange(FEATURES) + FEATURES,
        "low": np.array(-0.7),
        "high": np.array(0.7),
    }
    holds(build(text(net), **known, **others), answer)


def test_what_the_last_pass_gives_beside_the_features_is_kept(build, answer) -> None:
    graph = text(stop=f"d = ReduceSum <keepdims = 0> (s, last) {STOP} more = Less (l, one)")
    graph = graph.replace(
        "y) {\n", "y, float[n] det) {\n none = Shape <end = 1> (z) start = Expand (zero, none)\n", 1
    )
    graph = graph.replace("y = Loop (trips, go, begin)", "y, det = Loop (trips, go, begin, start)")
    graph = graph.replace("] x) =>", "] x, float[n] old) =>").replace(
        "] next)", "] next, float[n] d)"
    )
    model = build(graph, **arrays(), last=np.array([1]))
    before = answer(model, *feeds())
    assert rewrite(model).count == 1
    for new, old in zip(answer(model, *feeds()), before, strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-5, atol=1e-5)


FAULTS = {
    "a feature depends on itself": {"v": np.ones((len(UNITS), 2 * FEATURES))},
    "the loop ends before the last feature is found": {"trips": np.array(FEATURES - 1)},
    "the loop does not begin": {"go": np.array(False)},
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_loop_that_is_no_solution_of_a_triangular_map_stays(build, fault) -> None:
    assert rewrite(build(text(), **{**arrays(), **fault})).count == 0


STOPS = {
    "a tolerance": "q = Sub (next, x) n = Abs (q) l = ReduceMax <keepdims = 0> (n)"
    " more = Less (one, l)",
    "another bound": f"{STOP} more = Less (l, zero)",
    "another pair": "q = Equal (next, z) n = Cast <to = 1> (q) l = ReduceMin <keepdims = 0> (n)"
    " more = Less (l, one)",
}


@pytest.mark.parametrize("stop", STOPS.values(), ids=STOPS)
def test_a_loop_with_another_end_stays(build, stop) -> None:
    assert rewrite(build(text(stop=stop), **arrays())).count == 0


def test_an_operator_that_no_rule_tells_leaves_no_trace(build) -> None:
    net = NET.replace("next = Add (m, t)", "o = Softmax (s) f = Mul (m, o) next = Add (f, t)")
    model = build(text(net), **arrays())
    before = [node.op_type for node in model.graph.all_nodes()], set(model.graph.initializers)
    assert rewrite(model).count == 0
    assert before == (
        [node.op_type for node in model.graph.all_nodes()],
        set(model.graph.initializers),
    )


def test_a_loop_whose_body_holds_a_graph_stays(build) -> None:
    shape = f"float[n,{FEATURES}]"
    branches = " , ".join(
        f"{name}_branch = {name} () => ({shape} {name}_x) {{ {name}_x = Identity (x) }}"
        for name in ("then", "else")
    )
    net = NET.replace("next = Add (m, t)", f"o = If (go) <{branches}> next = Mul (m, o)")
    assert rewrite(build(text(net), **arrays())).count == 0


def test_few_weights_are_not_worth_it(build, monkeypatch) -> None:
    monkeypatch.setattr(block_sweeps, "WEIGHTS", 1000)
    assert rewrite(build(text(), **arrays())).count == 0
