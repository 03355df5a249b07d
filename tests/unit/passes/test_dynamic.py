"""Int8 weights with data quantised as it runs: close answers, loops, and what is refused."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from toolkit.core.errors import ExportError
from toolkit.passes._dynamic import to_dynamic_int8

SIZE, OUT, STEPS = 48, 40, 5
WEIGHT = np.random.default_rng(0).normal(size=(SIZE, OUT)).astype(np.float32)
BIAS = np.random.default_rng(1).normal(size=OUT).astype(np.float32)
X = np.random.default_rng(2).normal(size=(STEPS, 3, SIZE)).astype(np.float32)


def told(name: str, *shape: int | str) -> object:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def looped(*, transposed: bool = False, size: int = SIZE, operator: str = "Gemm") -> ir.Model:
    """Return a loop over steps whose body is one product with a weight from outside."""
    weight = WEIGHT[:size].T if transposed else WEIGHT[:size]
    attributes = {"transB": int(transposed)} if operator == "Gemm" else {}
    names = ["here", "weight", "bias"][: 3 if operator == "Gemm" else 2]
    node = helper.make_node(operator, names, ["there"], **attributes)
    body = helper.make_graph(
        [helper.make_node("Identity", ["state"], ["next"]), node],
        "body",
        [told("state", 1), told("here", "batch", size)],
        [told("next", 1), told("there", "batch", OUT)],
    )
    scan = helper.make_node("Scan", ["zero", "x"], ["last", "y"], num_scan_inputs=1, body=body)
    known = {"weight": np.ascontiguousarray(weight), "bias": BIAS, "zero": np.zeros(1, "f")}
    graph = helper.make_graph(
        [scan],
        "loop",
        [told("x", STEPS, "batch", size)],
        [told("y", STEPS, "batch", OUT)],
        [numpy_helper.from_array(value, name) for name, value in known.items()],
    )
    opset = [helper.make_opsetid("", 18)]
    return ir.from_proto(helper.make_model(graph, opset_imports=opset, ir_version=9))


def run(model: ir.Model, x: np.ndarray = X) -> np.ndarray:
    data = ir.to_proto(model).SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


@pytest.mark.parametrize(("transposed", "operator"), [(0, "Gemm"), (1, "Gemm"), (0, "MatMul")])
def test_a_product_in_a_loop_has_int8_weights_and_close_answers(
    transposed: int, operator: str
) -> None:
    model = looped(transposed=bool(transposed), operator=operator)
    plain, made = run(model), to_dynamic_int8(model, everywhere=False)
    found = run(made)
    error = np.abs(found - plain).max() / np.abs(plain).max()
    assert 0 < error < 0.02
    operators = [node.op_type for node in made.graph.all_nodes()]
    assert "MatMulInteger" in operators
    assert operator not in operators
    assert "weight" not in made.graph.initializers
    np.testing.assert_array_equal(run(model), plain)


def test_a_weight_that_is_altered_shows() -> None:
    made = to_dynamic_int8(looped(), everywhere=False)
    plain = run(looped())
    whole = made.graph.initializers["weight_int8"]
    whole.const_value = ir.tensor(np.roll(whole.const_value.numpy(), 1, 0), name=whole.name)
    assert np.abs(run(made) - plain).max() / np.abs(plain).max() > 0.1


def test_small_products_stay_as_they_are() -> None:
    with pytest.raises(ExportError, match="nothing to quantise"):
        to_dynamic_int8(looped(size=16), everywhere=True)


def test_outside_loops_only_a_step_is_quantised() -> None:
    node = helper.make_node("MatMul", ["x", "weight"], ["y"])
    weight = [numpy_helper.from_array(WEIGHT, "weight")]
    graph = helper.make_graph(
        [node], "step", [told("x", "batch", SIZE)], [told("y", "batch", OUT)], weight
    )
    opset = [helper.make_opsetid("", 18)]
    model = ir.from_proto(helper.make_model(graph, opset_imports=opset, ir_version=9))
    with pytest.raises(ExportError, match="in a loop"):
        to_dynamic_int8(model, everywhere=False)
    found = run(to_dynamic_int8(model, everywhere=True), X[0])
    assert 0 < np.abs(found - X[0] @ WEIGHT).max() / np.abs(X[0] @ WEIGHT).max() < 0.02
