from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper

from toolkit.core.errors import IntegrityError, UsageError
from toolkit.core.registry import backends
from toolkit.stages.inspect import describe, inspect_file, inspect_run

F = TensorProto.FLOAT
OPSET = [helper.make_opsetid("", 20)]


def value(name, *dims, dtype=F):
    return helper.make_tensor_value_info(name, dtype, dims)


def weight(name, *dims, dtype=F):
    size = 1
    for dim in dims:
        size *= dim
    return helper.make_tensor(name, dtype, dims, [0] * size)


def model(nodes, inputs, outputs, initializers=(), **more):
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(initializers))
    opset = more.pop("opset", OPSET)
    return helper.make_model(graph, opset_imports=opset, ir_version=10, **more)


def save(made, tmp_path):
    path = tmp_path / "g.onnx"
    onnx.save(made, path)
    return str(path)


CONV = model(
    [helper.make_node("Conv", ["x", "w"], ["y"], group=2, strides=[2, 2], pads=[1, 1, 1, 1])],
    [value("x", "batch", 4, 8, 8)],
    [value("y", "batch", 6, 4, 4)],
    [weight("w", 6, 2, 3, 3)],
)
TRANSPOSED = model(
    [helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2])],
    [value("x", "batch", 4, 5, 5)],
    [value("y", "batch", 3, 10, 10)],
    [weight("w", 4, 3, 2, 2)],
)
GEMM = model(
    [helper.make_node("Gemm", ["x", "w"], ["y"], transA=1, transB=1)],
    [value("x", 7, "batch")],
    [value("y", "batch", 5)],
    [weight("w", 5, 7)],
)
MATMUL = model(
    [helper.make_node("MatMul", ["x", "w"], ["y"])],
    [value("x", "batch", "time", 7)],
    [value("y", "batch", "time", 5)],
    [weight("w", 7, 5)],
)
BODY = helper.make_graph(
    [
        helper.make_node("MatMul", ["state", "w"], ["next"]),
        helper.make_node("Add", ["next", "item"], ["left"]),
        helper.make_node("Identity", ["left"], ["right"]),
    ],
    "body",
    [value("state", None, 3), value("item", None, 3)],
    [value("left", None, 3), value("right", None, 3)],
)
SCAN = model(
    [helper.make_node("Scan", ["x", "xs"], ["last", "y"], body=BODY, num_scan_inputs=1)],
    [value("x", "batch", 3), value("xs", 11, "batch", 3)],
    [value("y", 11, "batch", 3)],
    [weight("w", 3, 3)],
)
FUNCTION = model(
    [helper.make_node("Product", ["x", "w"], ["y"], domain="toolkit")],
    [value("x", "batch", 7)],
    [value("y", "batch", 5)],
    [weight("w", 7, 5)],
    opset=[*OPSET, helper.make_opsetid("toolkit", 1)],
    functions=[
        helper.make_function(
            "toolkit",
            "Product",
            ["a", "b"],
            ["c"],
            [helper.make_node("MatMul", ["a", "b"], ["c"])],
            OPSET,
        )
    ],
)


@pytest.mark.parametrize(
    ("made", "operator", "expected"),
    [
        pytest.param(CONV, "Conv", 2 * (2 * 6 * 4 * 4) * (2 * 9), id="conv"),
        pytest.param(TRANSPOSED, "ConvTranspose", 2 * (2 * 4 * 25) * (3 * 4), id="transposed"),
        pytest.param(GEMM, "Gemm", 2 * (2 * 5) * 7, id="gemm"),
        pytest.param(MATMUL, "MatMul", 2 * (2 * 9 * 5) * 7, id="matmul"),
        pytest.param(SCAN, "MatMul", 11 * 2 * (2 * 3) * 3, id="scan"),
        pytest.param(FUNCTION, "MatMul", 2 * (2 * 5) * 7, id="function"),
    ],
)
def test_operations_are_counted(tmp_path, made, operator, expected):
    found = describe(save(made, tmp_path), {"batch": 2, "time": 9})
    assert found["flops"]["per_operator"] == {operator: expected}
    assert found["flops"]["total"] == expected


def test_what_is_not_counted_is_said(tmp_path):
    made = model(
        [helper.make_node("Einsum", ["x", "w"], ["y"], equation="bi,ij->bj")],
        [value("x", "batch", 7)],
        [value("y", "batch", 5)],
        [weight("w", 7, 5)],
    )
    flops = describe(save(made, tmp_path), {})["flops"]
    assert (flops["total"], flops["not_counted"]) == (0, {"Einsum": 1})


def test_unknown_shapes_are_not_guessed(tmp_path):
    made = model(
        [
            helper.make_node("Reshape", ["x", "shape"], ["flat"]),
            helper.make_node("MatMul", ["flat", "w"], ["y"]),
        ],
        [value("x", "batch", 7), value("shape", 2, dtype=TensorProto.INT64)],
        [value("y", None, None)],
        [weight("w", 7, 5)],
    )
    flops = describe(save(made, tmp_path), {})["flops"]
    assert (flops["total"], flops["not_counted"]) == (0, {"MatMul": 1})


def test_description_says_what_the_graph_holds(tmp_path):
    found = describe(save(MATMUL, tmp_path), {})
    assert found["inputs"] == [{"name": "x", "dtype": "float32", "dims": ["batch", "time", 7]}]
    assert found["outputs"] == [{"name": "y", "dtype": "float32", "dims": ["batch", "time", 5]}]
    assert found["dynamic"] == ["batch", "time"]
    assert (found["parameters"], found["parameter_bytes"]) == (35, 140)
    assert found["operators"] == {"MatMul": 1}
    assert found["flops"]["sizes"] == {"batch": 1, "time": 32}
    assert found["bytes"] == (tmp_path / "g.onnx").stat().st_size


def test_functions_and_nested_operators_are_listed(tmp_path):
    (function,) = describe(save(FUNCTION, tmp_path), {})["functions"]
    assert function == {"name": "toolkit::Product", "calls": 1, "operators": {"MatMul": 1}}
    nested = describe(save(SCAN, tmp_path), {})["operators"]
    assert nested == {"Scan": 1, "MatMul": 1, "Add": 1, "Identity": 1}


def test_backend_that_refuses_a_graph_says_why(tmp_path):
    strings = model(
        [helper.make_node("Relu", ["x"], ["y"])],
        [value("x", 2, dtype=TensorProto.BFLOAT16)],
        [value("y", 2, dtype=TensorProto.BFLOAT16)],
    )
    rows = {row["backend"]: row for row in describe(save(strings, tmp_path), {})["backends"]}
    assert rows["onnxruntime"]["status"] == "failed"
    assert "Relu" in rows["onnxruntime"]["reason"]
    good = {row["backend"]: row for row in describe(save(MATMUL, tmp_path), {})["backends"]}
    assert good["onnxruntime"]["status"] == "ok"
    assert set(good) == {n for n in backends.names() if "onnx" in backends.load(n).formats}


def test_foreign_file_is_described_from_child_processes(tmp_path):
    found = inspect_file(tmp_path / save(MATMUL, tmp_path), {"batch": 2, "time": 9})
    assert found["flops"]["total"] == 2 * (2 * 9 * 5) * 7
    assert found["warnings"] == []


def test_truncated_file_is_refused(tmp_path):
    path = tmp_path / "cut.onnx"
    path.write_bytes(CONV.SerializeToString()[:-40])
    with pytest.raises(IntegrityError) as error:
        inspect_file(path, {})
    assert error.value.exit_code == 6
    assert str(path) in error.value.where


def test_missing_file_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError):
        inspect_file(tmp_path / "none.onnx", {})


def test_run_names_what_engines_refused(mini_run):
    refused = [{"operator": "Det", "node": "n", "module": "flow.1"}]
    row = {"entry": "log_prob", "engine": "tensorrt-rtx", "target": "8.6", "precision": "fp16"}
    result = {
        "files": [],
        "engines": [{**row, "status": "failed", "reason": "refused", "refused": refused}],
    }
    mini_run.record("build", {"status": "ok", "reason": "", "result": result})
    rows = {(row["entry"], row["variant"]): row for row in inspect_run(mini_run, {})}
    assert [e["refused"] for e in rows["log_prob", "fp16"]["engines"]] == [refused]
    assert rows["log_prob", "fp32"]["engines"] == []


def test_damaged_graph_of_a_run_is_refused(mini_run):
    path = mini_run.entry("log_prob") / "fp32.onnx"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(IntegrityError):
        inspect_run(mini_run, {})
