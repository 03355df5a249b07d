from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from toolkit.backends._tensorrt_graph import (
    SCOPES,
    Refused,
    nodes_of,
    origin,
    profile_shapes,
    read_inlined,
    refused_node,
)
from toolkit.capture import finish
from toolkit.core.errors import ExportError, UsageError

OPSET = helper.make_opsetid("", 20)


def value(name: str, dims: list, dtype: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, dims)


def save(path: Path, nodes: list, inputs: list, outputs: list, functions: list = ()) -> Path:
    model = helper.make_model(
        helper.make_graph(nodes, "graph", inputs, outputs),
        opset_imports=[OPSET, helper.make_opsetid("toolkit", 1)],
        functions=list(functions),
        ir_version=10,
    )
    onnx.save(model, path)
    return path


def called(name: str, tensor: str, output: str, module: str) -> onnx.NodeProto:
    node = helper.make_node(name, [tensor], [output], name=f"call_{module}", domain="toolkit")
    node.metadata_props.add(key=SCOPES, value=str(["", module, "call"]))
    return node


def test_inlined_nodes_keep_the_module_of_their_call(tmp_path: Path) -> None:
    inner = helper.make_function(
        "toolkit", "Inner", ["a"], ["o"], [helper.make_node("Det", ["a"], ["o"], "det")], [OPSET]
    )
    outer = helper.make_function(
        "toolkit",
        "Outer",
        ["a"],
        ["o"],
        [helper.make_node("Inner", ["a"], ["o"], "inner", domain="toolkit")],
        [OPSET, helper.make_opsetid("toolkit", 1)],
    )
    nodes = [
        called("Outer", "x", "y", "flow.first"),
        called("Inner", "x", "z", "flow.second"),
    ]
    path = save(
        tmp_path / "f.onnx",
        nodes,
        [value("x", ["batch", 3, 3])],
        [value("y", ["batch"]), value("z", ["batch"])],
        [inner, outer],
    )
    model = read_inlined(path)
    assert not model.functions
    found = [refused_node(model, node.op_type, node.name) for node in model.graph.node]
    assert [(item.operator, item.module) for item in found] == [
        ("Det", "flow.first"),
        ("Det", "flow.second"),
    ]


def test_module_path_is_read_from_what_torch_exports(tmp_path: Path) -> None:
    class Block(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.linalg.det(x)

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = torch.nn.ModuleList([Block()])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.blocks[0](x)

    path = tmp_path / "det.onnx"
    torch.onnx.export(Model().eval(), (torch.randn(2, 3, 3),), path, dynamo=True, verbose=False)
    model = read_inlined(path)
    (det,) = [node for node in nodes_of(model.graph) if node.op_type == "Det"]
    assert refused_node(model, "Det", det.name).module == "blocks.0"
    index = list(model.graph.node).index(det)
    assert refused_node(model, "", "", index) == refused_node(model, "Det", det.name)


def test_node_without_record_is_given_by_name(tmp_path: Path) -> None:
    nodes = [helper.make_node("Neg", ["x"], ["y"], "node_neg")]
    model = read_inlined(save(tmp_path / "a.onnx", nodes, [value("x", [2])], [value("y", [2])]))
    assert refused_node(model, "Neg", "node_neg") == Refused("Neg", "node_neg")


@pytest.mark.parametrize("scopes", ["", "[", "3", "[]", "['only']"])
def test_a_record_that_cannot_be_read_is_no_record(scopes: str) -> None:
    node = helper.make_node("Neg", ["x"], ["y"])
    node.metadata_props.add(key=SCOPES, value=scopes)
    assert origin(node) == ("", "")


def test_what_capture_recorded_is_read(tmp_path: Path) -> None:
    node = helper.make_node("Neg", ["x"], ["y"], "node_neg")
    node.metadata_props.add(key=finish.MODULE, value="flow.0")
    node.metadata_props.add(key=finish.SOURCE, value="nn/flow.py:3 in forward")
    model = read_inlined(save(tmp_path / "a.onnx", [node], [value("x", [2])], [value("y", [2])]))
    refused = refused_node(model, "Neg", "node_neg")
    assert refused == Refused("Neg", "node_neg", "flow.0", "nn/flow.py:3 in forward")
    assert str(refused) == (
        "Neg (node 'node_neg' of module 'flow.0') is refused (nn/flow.py:3 in forward)"
    )


@pytest.mark.parametrize(("inputs", "outputs"), [("DOUBLE", "FLOAT"), ("FLOAT", "DOUBLE")])
def test_float64_is_refused(tmp_path: Path, inputs: str, outputs: str) -> None:
    path = save(
        tmp_path / "a.onnx",
        [helper.make_node("Cast", ["x"], ["y"], "cast", to=getattr(TensorProto, outputs))],
        [value("x", [2], getattr(TensorProto, inputs))],
        [value("y", [2], getattr(TensorProto, outputs))],
    )
    with pytest.raises(ExportError, match="float64"):
        read_inlined(path)


def test_damaged_file_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(b"no graph")
    with pytest.raises(ExportError, match="cannot be read"):
        read_inlined(path)


def test_profiles_cover_dynamic_inputs_only(tmp_path: Path) -> None:
    path = save(
        tmp_path / "a.onnx",
        [helper.make_node("Add", ["x", "c"], ["y"], "add")],
        [value("x", ["batch", 3, "time"]), value("c", [1, 3, 1])],
        [value("y", ["batch", 3, "time"])],
    )
    model = read_inlined(path)
    ranges = {"batch": (1, 8, 64), "time": (2, 4, 16)}
    assert profile_shapes(model, ranges) == {"x": ((1, 3, 2), (8, 3, 4), (64, 3, 16))}
    with pytest.raises(UsageError, match="'time' of 'x' has no range"):
        profile_shapes(model, {"batch": (1, 8, 64)})
