from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from toolkit.backends.onnxruntime import _wanted, backend
from toolkit.core.errors import ExportError, IntegrityError, MissingError, UsageError
from toolkit.core.protocols import Artifact
from toolkit.core.signature import Signature

SIGNATURE = Signature("entry", "", (), ())


def save(path, nodes, *, dtype=TensorProto.FLOAT, result=TensorProto.FLOAT, opset=20, shape=("n",)):
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", dtype, shape)],
        [helper.make_tensor_value_info("y", result, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    onnx.save(model, path)
    return Artifact(path, SIGNATURE, "fp32")


def test_output_shapes_may_depend_on_the_inputs(tmp_path):
    artifact = save(
        tmp_path / "a.onnx",
        [helper.make_node("NonZero", ["x"], ["y"])],
        result=TensorProto.INT64,
    )
    runner = backend.open(artifact)
    some, none = np.array([1, 0, 2], np.float32), np.zeros(4, np.float32)
    for array, found in ((some, 2), (none, 0), (some, 2)):
        call = runner.prepare({"x": array})
        call()
        call()
        assert runner({"x": array})["y"].shape == (1, found)
    runner.close()


def test_a_scalar_stays_a_scalar(tmp_path):
    nodes = [helper.make_node("Shape", ["x"], ["y"])]
    artifact = save(tmp_path / "a.onnx", nodes, result=TensorProto.INT64, shape=())
    assert backend.open(artifact)({"x": np.array(3, np.float32)})["y"].shape == (0,)


def test_floats_become_the_halves_that_a_variant_takes(tmp_path):
    artifact = save(
        tmp_path / "half.onnx",
        [helper.make_node("Abs", ["x"], ["y"])],
        dtype=TensorProto.FLOAT16,
        result=TensorProto.FLOAT16,
    )
    runner = backend.open(artifact)
    assert runner({"x": np.array([-1.5], np.float32)})["y"].dtype == np.float16
    with pytest.raises(ExportError, match="Unexpected input data type"):
        runner({"x": np.array([1])})


def test_records_what_may_change_speed_or_answers(tmp_path):
    artifact = save(tmp_path / "a.onnx", [helper.make_node("Abs", ["x"], ["y"])])
    settings = backend.open(artifact, threads=2).settings
    assert settings["threads"] == 2
    assert settings["providers"] == ["CPUExecutionProvider"]
    assert settings["deterministic"]


def test_a_missing_input_is_named(tmp_path):
    runner = backend.open(save(tmp_path / "a.onnx", [helper.make_node("Abs", ["x"], ["y"])]))
    with pytest.raises(UsageError, match="no value is given for x"):
        runner({"z": np.zeros(1, np.float32)})


@pytest.mark.parametrize("content", [b"", b"\x00\x01 not a graph", None])
def test_a_damaged_file_is_refused(tmp_path, content):
    path = tmp_path / "a.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises((IntegrityError, ExportError)) as caught:
        backend.open(Artifact(path, SIGNATURE, "fp32"))
    assert caught.value.where == str(path)
    assert caught.value.next_step


def test_an_operator_that_it_lacks_is_refused(tmp_path):
    artifact = save(tmp_path / "a.onnx", [helper.make_node("NoSuchOperator", ["x"], ["y"])])
    with pytest.raises(ExportError, match="NoSuchOperator"):
        backend.open(artifact)


def test_an_absent_provider_is_named_with_its_install_line():
    assert "pip install" in backend.absent(providers=["tensorrt"])
    with pytest.raises(MissingError, match="TensorrtExecutionProvider"):
        backend.open(Artifact(Path("x.onnx"), SIGNATURE, "fp32"), providers=["tensorrt"])


@pytest.mark.parametrize(
    ("device", "asked", "expected"),
    [
        ("cpu", ["cpu"], ["cpu"]),
        ("cpu", [], ["cpu"]),
        ("cuda:1", ["cpu"], ["cuda", "cpu"]),
        ("cuda", ["tensorrt", "cuda"], ["tensorrt", "cuda", "cpu"]),
        ("cpu", ["cpu", "openvino"], ["openvino", "cpu"]),
    ],
)
def test_the_processor_is_the_last_resort(device, asked, expected):
    assert _wanted(device, asked) == expected


def test_the_nodes_of_each_provider_are_counted(tmp_path):
    nodes = [helper.make_node("Neg", ["x"], ["z"]), helper.make_node("NonZero", ["z"], ["y"])]
    artifact = save(tmp_path / "a.onnx", nodes, result=TensorProto.INT64)
    assert backend.open(artifact).settings["nodes"] == {"CPUExecutionProvider": 2}
