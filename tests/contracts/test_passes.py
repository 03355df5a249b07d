"""Every pass keeps the answers, says honestly whether it changed anything, and is idempotent."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import numpy_helper, parser
from onnx.reference import ReferenceEvaluator

from toolkit.core.protocols import Change
from toolkit.core.registry import passes
from toolkit.runtime.limits import judge

Arrays = dict[str, np.ndarray]
DRAW = np.random.default_rng(0)
HEADER = '<ir_version: 10, opset_import: ["": 20, "toolkit": 1]>'

FLOW = """
flow (float[batch,2,8,8] x) => (float[batch] log_prob, float[batch,8,4,4] z) {
  six = Reshape (x, six_dims)
  turned = Transpose <perm = [0, 1, 3, 5, 2, 4]> (six)
  squeezed = Reshape (turned, four_dims)
  moved = Add (squeezed, shift)
  scaled = Mul (moved, scale)
  mixed = Conv <kernel_shape = [1, 1]> (scaled, rotation)
  a, b = Split <axis = 1, num_outputs = 2> (mixed)
  hidden = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (a, w_in, b_in)
  active = Relu (hidden)
  net = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (active, w_out, b_out)
  t, raw = Split <axis = 1, num_outputs = 2> (net)
  raised = Add (raw, two)
  s = Sigmoid (raised)
  bt = Add (b, t)
  y = Mul (bt, s)
  ls1 = Log (s)
  d1 = ReduceSum <keepdims = 0> (ls1, axes)
  u = Tanh (t)
  v = Exp (u)
  s2 = Sigmoid (v)
  ls2 = Log (s2)
  d2 = ReduceSum <keepdims = 0> (ls2, axes)
  s3 = Sigmoid (bt)
  ls3 = Log (s3)
  d3 = ReduceSum <keepdims = 0> (ls3, axes)
  z = Concat <axis = 1> (a, y)
  half_square = Pow (z, two)
  halved = Mul (half_square, minus_half)
  centred = Sub (halved, base)
  density = ReduceSum <keepdims = 0> (centred, axes)
  batch = Shape <start = 0, end = 1> (x)
  zeros = ConstantOfShape <value = float[1] {0.0}> (batch)
  c1 = Expand (det1, batch)
  c2 = Expand (det2, batch)
  l1 = Add (zeros, c1)
  l2 = Add (l1, d1)
  l3 = Add (l2, c2)
  l4 = Sub (l3, d2)
  n3 = Neg (d3)
  n2 = Neg (d2)
  l5 = Add (l4, n3)
  l6 = Add (l5, n2)
  log_prob = Add (density, l6)
}
"""

FLOW_ARRAYS: Arrays = {
    "six_dims": np.array([-1, 2, 4, 2, 4, 2]),
    "four_dims": np.array([-1, 8, 4, 4]),
    "axes": np.array([1, 2, 3]),
    "shift": DRAW.normal(size=(1, 8, 1, 1)),
    "scale": DRAW.uniform(0.5, 2, size=(1, 8, 1, 1)),
    "rotation": DRAW.normal(size=(8, 8, 1, 1)) / 3,
    "w_in": DRAW.normal(size=(64, 4, 3, 3)) / 6,
    "b_in": DRAW.normal(size=64) / 6,
    "w_out": DRAW.normal(size=(8, 64, 3, 3)) / 100,
    "b_out": DRAW.normal(size=8) / 10,
    "two": np.array(2.0),
    "minus_half": np.array(-0.5),
    "base": np.array(0.9189385),
    "det1": np.array(1.25),
    "det2": np.array(-0.75),
}

SUMS = """
sums (float[batch,3,4,4] x, float[batch,3,4,4] y) => (float[batch] total, float[batch,3,4,4] m) {
  flat = Reshape (x, flat_dims)
  q = Sigmoid (x)
  p = Log (q)
  p2 = Sigmoid (y)
  q2 = Log (p2)
  p3 = Tanh (x)
  q3 = Sigmoid (p3)
  q4 = Log (q3)
  r1 = ReduceSum <keepdims = 0> (p, axes)
  r2 = ReduceSum <keepdims = 0> (q2, axes)
  r3 = ReduceSum <keepdims = 0> (q4, axes)
  r4 = ReduceSum <keepdims = 0> (flat, last)
  n1 = Neg (r1)
  n2 = Neg (r2)
  n3 = Neg (r3)
  a1 = Add (n1, n2)
  a2 = Add (a1, n3)
  a3 = Sub (a2, r4)
  a4 = Add (a3, c)
  total = Add (c, a4)
  root = Pow (q, half)
  cube = Pow (root, three)
  positive = Softplus (y)
  m = Add (cube, positive)
}
"""

SUMS_ARRAYS: Arrays = {
    "flat_dims": np.array([-1, 48]),
    "axes": np.array([1, 2, 3]),
    "last": np.array([1]),
    "c": np.array(0.5),
    "half": np.array(0.5),
    "three": np.array(3.0),
}

SHUFFLE = """
shuffle (float[batch,2,8,8] x, float[batch,1,4,6] u, float[batch,8,3,3] v)
    => (float[batch,3,4,4] y, float[batch,4,2,3] z, float[batch,2,6,6] t) {
  six = Reshape (x, six_dims)
  turned = Transpose <perm = [0, 1, 3, 5, 2, 4]> (six)
  squeezed = Reshape (turned, four_dims)
  y = Conv <kernel_shape = [1, 1]> (squeezed, w)
  six_u = Reshape (u, six_u_dims)
  turned_u = Transpose <perm = [0, 1, 3, 5, 2, 4]> (six_u)
  z = Reshape (turned_u, four_u_dims)
  six_v = Reshape (v, six_v_dims)
  turned_v = Transpose <perm = [0, 1, 4, 2, 5, 3]> (six_v)
  t = Reshape (turned_v, four_v_dims)
}
"""

SHUFFLE_ARRAYS: Arrays = {
    "six_dims": np.array([-1, 2, 4, 2, 4, 2]),
    "four_dims": np.array([-1, 8, 4, 4]),
    "six_u_dims": np.array([-1, 1, 2, 2, 3, 2]),
    "four_u_dims": np.array([-1, 4, 2, 3]),
    "six_v_dims": np.array([-1, 2, 2, 2, 3, 3]),
    "four_v_dims": np.array([-1, 2, 6, 6]),
    "w": DRAW.normal(size=(3, 8, 1, 1)),
}

MASKED = """
masked (float[batch,3,9,9] x) => (float[batch,5,9,9] y, float[batch,5,5,5] z) {
  y = Conv <kernel_shape = [5, 5], pads = [2, 2, 2, 2]> (x, w, b)
  z = Conv <kernel_shape = [3, 3], pads = [2, 2, 2, 2], dilations = [2, 2], strides = [2, 2]> (x, v)
}
"""


def masked(side: int) -> np.ndarray:
    weight = DRAW.normal(size=(5, 3, side, side)) / side
    weight[:, :, side // 2, side // 2 :] = 0
    weight[:, :, side // 2 + 1 :] = 0
    return weight


MASKED_ARRAYS: Arrays = {"w": masked(5), "b": DRAW.normal(size=5), "v": masked(3)}

WASTE = """
waste (float[batch,6] x) => (float[batch,6] y, float[batch,2,3] z) {
  same = Identity (x)
  e1 = Exp (same)
  e2 = Exp (x)
  unused = Tanh (x)
  summed = Add (k1, k2)
  e3 = Add (e1, e2)
  y = Mul (e3, summed)
  first = Reshape (x, three_two)
  again = Reshape (first, six)
  z = Reshape (again, two_three)
}
"""

WASTE_ARRAYS: Arrays = {
    "k1": np.array([1.5]),
    "k2": np.array([2.5]),
    "three_two": np.array([-1, 3, 2]),
    "six": np.array([-1, 6]),
    "two_three": np.array([-1, 2, 3]),
}

LOOP = """
loop (float[batch,4] x) => (float[batch,4] y) {
  y = Loop (trips, go, x) <body = step (int64 i, bool c, float[batch,4] state)
      => (bool more, float[batch,4] next) {
    more = Identity (c)
    product = Gemm (state, w)
    scaled = Mul (product, half)
    squared = Pow (scaled, two)
    next = Tanh (squared)
  }>
}
"""

LOOP_ARRAYS: Arrays = {
    "trips": np.array(3),
    "go": np.array(True),
    "w": DRAW.normal(size=(4, 4)),
    "half": np.array(0.5),
    "two": np.array(2.0),
}

SWEEPS = """
sweeps (float[batch,40] z) => (float[batch,40] y, float[batch] log_det) {
  size = Shape (z)
  count = Shape <start = 0, end = 1> (z)
  begin = Expand (zero, size)
  nothing = Expand (zero, count)
  y, log_det = Loop (trips, go, begin, nothing) <body = sweep
      (int64 i, bool c, float[batch,40] x, float[batch] old) =>
      (bool more, float[batch,40] next, float[batch] found) {
    first = Gemm (x, w, b)
    hidden = Relu (first)
    both = Gemm (hidden, v)
    shift, scale = Split <axis = 1, num_outputs = 2> (both)
    factor = Exp (scale)
    moved = Mul (z, factor)
    next = Add (moved, shift)
    found = ReduceSum <keepdims = 0> (scale, last)
    same = Equal (next, x)
    equal = Cast <to = 1> (same)
    least = ReduceMin <keepdims = 0> (equal)
    more = Less (least, one)
  }>
}
"""

FEEDS = np.repeat(np.arange(40), 48)
SWEEPS_ARRAYS: Arrays = {
    "zero": np.array(0.0),
    "one": np.array(1, np.float32),
    "last": np.array([1]),
    "trips": np.array(40),
    "go": np.array(True),
    "w": 0.3 * DRAW.normal(size=(40, 1920)) * (np.arange(40)[:, None] <= FEEDS),
    "b": DRAW.normal(size=1920),
    "v": 0.003 * DRAW.normal(size=(1920, 80)) * (FEEDS[:, None] < np.tile(np.arange(40), 2)),
}

FUNCTION = """
function (float[batch,4] x) => (float[batch,4] y) {
  doubled = Mul (x, half)
  y = toolkit.smooth (doubled)
}
<domain: "toolkit", opset_import: ["": 20]>
smooth (x) => (y) {
  p = Softplus (x)
  y = Sqrt (p)
}
"""

PER_FEATURE = """
per_feature (float[batch,3,5] x) => (float[batch,3,4] y, float[batch,3,5,4] p) {
  x4 = Unsqueeze (x, three)
  x_turned = Transpose <perm = [1, 0, 2, 3]> (x4)
  x3 = Reshape (x_turned, in_dims)
  first = MatMul (x3, w_in)
  first4 = Reshape (first, hidden_dims)
  first_turned = Transpose <perm = [1, 0, 3, 2]> (first4)
  first3 = Reshape (first_turned, back_dims)
  moved = Add (first3, b_in)
  a, b = Split <axis = 2, num_outputs = 2> (moved)
  c = Elu (a)
  d = Neg (b)
  e = Concat <axis = -1> (c, d)
  e4 = Unsqueeze (e, three)
  e_turned = Transpose <perm = [1, 0, 2, 3]> (e4)
  e3 = Reshape (e_turned, again_dims)
  second = MatMul (e3, w_out)
  second_turned = Transpose <perm = [1, 0, 2]> (second)
  y = Add (second_turned, b_out)
  s = Sigmoid (x)
  s4 = Unsqueeze (s, three)
  p = Pow (s4, exponents)
}
"""

PER_FEATURE_ARRAYS: Arrays = {
    "three": np.array([3]),
    "in_dims": np.array([3, -1, 5]),
    "hidden_dims": np.array([3, -1, 1, 6]),
    "back_dims": np.array([-1, 3, 6]),
    "again_dims": np.array([3, -1, 6]),
    "exponents": np.array([0.0, 1.0, 2.0, 5.0]),
    "w_in": DRAW.normal(size=(3, 5, 6)),
    "b_in": DRAW.normal(size=(3, 6)),
    "w_out": DRAW.normal(size=(3, 6, 4)),
    "b_out": DRAW.normal(size=(3, 4)),
}

GATED = """
gated (float[batch,8] x) => (float[batch,4] y) {
  a, b = Split <axis = 1, num_outputs = 2> (x)
  below = Neg (b)
  power = Exp (below)
  total = Add (power, one)
  gate = Reciprocal (total)
  value = Tanh (a)
  y = Mul (value, gate)
}
"""

COUPLED = """
coupled (float[batch,4] x) => (float[batch,2] y) {
  a = Gather <axis = 1> (x, even_flat)
  b = Gather <axis = 1> (x, odd_flat)
  size = Abs (b)
  below = Neg (size)
  small = Exp (below)
  total = Add (small, one)
  high = Log (total)
  back = Sub (total, one)
  lost = Sub (small, back)
  scale = Add (high, lost)
  made = Mul (a, scale)
  blank = Transpose <perm = [1, 0]> (x)
  made_turned = Transpose <perm = [1, 0]> (made)
  b_turned = Transpose <perm = [1, 0]> (b)
  first = ScatterND (blank, even, made_turned)
  same = Identity (first)
  second = ScatterND (same, odd, b_turned)
  joined = Transpose <perm = [1, 0]> (second)
  y = Gather <axis = 1> (joined, even_flat)
}
"""

COUPLED_ARRAYS: Arrays = {
    "even_flat": np.array([0, 2]),
    "odd_flat": np.array([1, -1]),
    "even": np.array([[0], [2]]),
    "odd": np.array([[1], [3]]),
    "one": np.array(1.0),
}

MASKED_INVERSE = """
masked_inverse (float[batch,4] z) => (float[batch,4] x, float[batch] log_det)
    <float[batch,4,2] first_pairs, float[batch,4,2] pairs> {
  size = Shape (z)
  start = Expand (zero, size)
  first = Gemm <transB = 1> (start, w, b)
  first_pairs = Reshape (first, pair_dims)
  first_shift = Gather <axis = 2> (first_pairs, i)
  first_raw = Gather <axis = 2> (first_pairs, j)
  first_scale = Sigmoid (first_raw)
  moved = Sub (z, first_shift)
  first_x = Mul (moved, first_scale)
  layer = Gemm <transB = 1> (first_x, w, b)
  pairs = Reshape (layer, pair_dims)
  shift = Gather <axis = 2> (pairs, i)
  raw = Gather <axis = 2> (pairs, j)
  scale = Sigmoid (raw)
  moved_again = Sub (z, shift)
  x = Mul (moved_again, scale)
  along = Mul (x, row)
  log_det = ReduceSum <keepdims = 0> (along, last)
}
"""

MASKED_INVERSE_ARRAYS: Arrays = {
    "zero": np.array(0.0),
    "w": DRAW.normal(size=(8, 4)),
    "b": DRAW.normal(size=8),
    "row": DRAW.normal(size=(1, 4)),
    "pair_dims": np.array([-1, 4, 2]),
    "last": np.array([1]),
    "i": np.array(0),
    "j": np.array(1),
}

CONTEXT = """
context (float[batch,4] x, float[batch,3] c) => (float[batch,4] y) {
  part = Gemm (c, w_context)
  first = Gemm (x, w, b)
  first_sum = Add (first, part)
  first_active = Relu (first_sum)
  second = Gemm (first_active, w, b)
  second_sum = Add (part, second)
  bounded = Tanh (second_sum)
  clamped = Mul (bounded, half)
  below = Neg (clamped)
  y = Exp (below)
}
"""

CONTEXT_ARRAYS: Arrays = {
    "w_context": DRAW.normal(size=(3, 4)),
    "w": DRAW.normal(size=(4, 4)),
    "b": DRAW.normal(size=4),
    "half": np.array(0.5),
}

ATTENTION = """
attention (float[batch,4] q, float[batch,6,4] k, float[batch,6,4] v) => (float[batch,1,4] y) {
  keys = ReduceSum <keepdims = 0> (k, zero)
  values = ReduceSum <keepdims = 0> (v, zero)
  batch = Shape <start = 0, end = 1> (q)
  size = Squeeze (batch)
  count = Sub (size, three)
  filled = Less (places, count)
  hidden = Where (filled, shown, unfilled)
  y = Scan <num_scan_inputs = 1, body = attend (float[4] now) => (float[1,4] found)
    <float[4,1] query, float[6,1] old, float[2,1] recent, float[8,1] scores, float[1,8] row,
     float[8] shift, float[1,8] masked, float[1,8] weights, float[1,6] of_old, float[1,2] of_recent,
     float[1,4] a, float[1,4] b> {
    query = Unsqueeze (now, one)
    old = MatMul (keys, query)
    recent = MatMul (newest, query)
    scores = Concat <axis = 0> (old, recent)
    row = Reshape (scores, row_dims)
    shift = Concat <axis = 0> (hidden, later)
    masked = Add (row, shift)
    weights = Softmax <axis = -1> (masked)
    of_old, of_recent = Split <axis = 1> (weights, sizes)
    a = MatMul (of_old, values)
    b = MatMul (of_recent, newest)
    found = Add (a, b)
  }> (q)
}
"""

ATTENTION_ARRAYS: Arrays = {
    "zero": np.array([0]),
    "one": np.array([1]),
    "three": np.array(3),
    "places": np.arange(6),
    "shown": np.array(0.0),
    "unfilled": np.array(-np.inf),
    "newest": DRAW.normal(size=(2, 4)),
    "later": np.array([0.0, -np.inf]),
    "row_dims": np.array([1, 8]),
    "sizes": np.array([6, 2]),
}

GRAPHS: dict[str, tuple[str, Arrays]] = {
    "flow": (FLOW, FLOW_ARRAYS),
    "sums": (SUMS, SUMS_ARRAYS),
    "shuffle": (SHUFFLE, SHUFFLE_ARRAYS),
    "masked": (MASKED, MASKED_ARRAYS),
    "waste": (WASTE, WASTE_ARRAYS),
    "loop": (LOOP, LOOP_ARRAYS),
    "sweeps": (SWEEPS, SWEEPS_ARRAYS),
    "per feature": (PER_FEATURE, PER_FEATURE_ARRAYS),
    "coupled": (COUPLED, COUPLED_ARRAYS),
    "masked inverse": (MASKED_INVERSE, MASKED_INVERSE_ARRAYS),
    "context": (CONTEXT, CONTEXT_ARRAYS),
    "attention": (ATTENTION, ATTENTION_ARRAYS),
    "gated": (GATED, {"one": np.array(1.0)}),
    "function": (FUNCTION, {"half": np.array(0.5)}),
}


def build(name: str, dtype: type = np.float32) -> onnx.ModelProto:
    """Return a sample graph whose floating-point numbers are of one type."""
    text, arrays = GRAPHS[name]
    if dtype is np.float64:
        text = text.replace("float[", "double[")
    model = parser.parse_model(HEADER + text)
    for key, array in arrays.items():
        typed = array.astype(np.float32).astype(dtype) if array.dtype == np.float64 else array
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(typed), key))
    for index, node in enumerate(model.graph.node):
        node.metadata_props.add(key="namespace", value=f"module.{index}")
    return model


def load(name: str) -> ir.Model:
    """Return a sample graph with the shapes that an export has."""
    return ir.from_proto(onnx.shape_inference.infer_shapes(build(name), data_prop=True))


def feeds_for(name: str, dtype: type = np.float32) -> Arrays:
    draw = np.random.default_rng(1)
    return {
        item.name: draw.normal(
            size=[7, *(d.dim_value for d in item.type.tensor_type.shape.dim[1:])]
        )
        .astype(np.float32)
        .astype(dtype)
        for item in build(name).graph.input
    }


def answers(data: bytes, feeds: Arrays) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    outputs: list[np.ndarray] = session.run(None, feeds)
    return outputs


@pytest.fixture(scope="module")
def oracle() -> Callable[[str], list[np.ndarray]]:
    """Return a function that evaluates a sample graph in float64, once."""
    known: dict[str, list[np.ndarray]] = {}

    def evaluate(name: str) -> list[np.ndarray]:
        if name not in known:
            evaluator = ReferenceEvaluator(build(name, np.float64))
            known[name] = evaluator.run(None, feeds_for(name, np.float64))
        return known[name]

    return evaluate


def data_of(model: ir.Model) -> bytes:
    return ir.to_proto(model).SerializeToString(deterministic=True)


def content(model: ir.Model) -> tuple[list[bytes], list[bytes]]:
    """Return nodes and constants, without nodes' names and what says how they came about."""
    proto = ir.to_proto(model)
    strip(proto.graph)
    return (
        [node.SerializeToString(deterministic=True) for node in proto.graph.node],
        sorted(item.SerializeToString(deterministic=True) for item in proto.graph.initializer),
    )


def strip(graph: onnx.GraphProto) -> None:
    for node in graph.node:
        node.ClearField("name")
        node.ClearField("metadata_props")
        for attribute in node.attribute:
            strip(attribute.g)


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("name", passes.names())
def test_a_pass_is_honest_idempotent_and_right(
    name: str, graph: str, oracle: Callable[[str], list[np.ndarray]]
) -> None:
    rewrite, model = passes.load(name), load(graph)
    before, plain = content(model), answers(data_of(model), feeds_for(graph))

    change = rewrite(model)

    assert isinstance(change, Change)
    assert (change.count > 0) == (content(model) != before)
    assert change.count > 0 or change.reason
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    for got, want, eager in zip(
        answers(data_of(model), feeds_for(graph)), oracle(graph), plain, strict=True
    ):
        good, value, limit, _ = judge(got, want, eager)
        assert good, f"{value} > {limit}"
    after = content(model)
    assert rewrite(model).count == 0
    assert content(model) == after


def test_no_two_passes_stand_at_one_place_of_the_pipeline() -> None:
    orders = [rewrite.order for _, rewrite in passes.items()]
    assert len(set(orders)) == len(orders)


@pytest.mark.parametrize("name", passes.names())
def test_a_pass_changes_some_sample_graph(name: str) -> None:
    rewrite = passes.load(name)
    assert isinstance(rewrite.order, int)
    assert isinstance(rewrite.portable, bool)
    assert any(rewrite(load(graph)).count for graph in GRAPHS)


@pytest.mark.parametrize("name", passes.names())
def test_a_pass_keeps_module_paths_and_makes_the_same_bytes(name: str) -> None:
    rewrite = passes.load(name)
    for graph in GRAPHS:
        first, second = load(graph), load(graph)
        rewrite(first)
        rewrite(second)
        assert data_of(first) == data_of(second)
        lost = [n.op_type for n in first.graph if "namespace" not in n.metadata_props]
        assert not lost, f"{graph}: {lost}"


@pytest.mark.parametrize("name", passes.names())
def test_a_pass_leaves_model_local_functions_alone(name: str) -> None:
    model = load("function")
    passes.load(name)(model)
    assert [node.op_type for node in model.graph][-1] == "smooth"
    (function,) = model.functions.values()
    assert [node.op_type for node in function] == ["Softplus", "Sqrt"]


def test_the_contract_catches_a_wrong_rewrite(oracle: Callable[[str], list[np.ndarray]]) -> None:
    model = load("flow")
    for node in model.graph:
        if node.op_type == "Sub":
            node.op_type = "Add"
            break
    plain = answers(data_of(load("flow")), feeds_for("flow"))
    wrong = answers(data_of(model), feeds_for("flow"))
    assert not judge(wrong[0], oracle("flow")[0], plain[0])[0]
