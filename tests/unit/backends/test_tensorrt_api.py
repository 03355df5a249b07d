"""Feature detection against doubles of TensorRT's Python API.

The libraries themselves cannot be here: classic TensorRT needs the vendor's libraries and a GPU,
and ten versions do not fit into one environment. Each double has just the names its version has, so
code that reaches for a missing one fails.
"""

from enum import Enum
from pathlib import Path
from types import SimpleNamespace

import onnx
import pytest
from onnx import TensorProto, helper

from toolkit.backends._tensorrt_api import RefusedError, build_plan, network_flags, targets
from toolkit.core.errors import ExportError

CLASSIC_FLAGS = ("EXPLICIT_BATCH", "STRONGLY_TYPED")
STRONG_FLAGS = ("STRONGLY_TYPED",)
NAMED = ("node", "node_name", "node_operator")
VERSIONS = {
    "10.0": {"flags": CLASSIC_FLAGS, "error": ("node",)},
    "10.3": {"flags": CLASSIC_FLAGS, "error": NAMED},
    "10.8": {"flags": CLASSIC_FLAGS, "error": NAMED},
    "10.12": {"flags": CLASSIC_FLAGS, "error": NAMED},
    "10.16": {"flags": CLASSIC_FLAGS, "error": NAMED, "attention": True},
    "11.0": {"flags": STRONG_FLAGS, "error": NAMED, "attention": True},
    "11.4": {"flags": STRONG_FLAGS, "error": NAMED, "attention": True},
    "rtx": {"flags": STRONG_FLAGS, "error": NAMED, "attention": True, "targets": ("SM86", "SM120")},
}
SHAPES = {"x": ((1, 3), (8, 3), (64, 3))}


class Double:
    """A TensorRT module with the features of one version; `asked` records what was called."""

    def __init__(
        self,
        flags: tuple[str, ...],
        error: tuple[str, ...],
        *,
        attention: bool = False,
        targets: tuple[str, ...] = (),
        refuses: str = "",
        answer: str = "",
        profile: int = 0,
    ) -> None:
        self.asked: dict = {}
        self.NetworkDefinitionCreationFlag = Enum("NetworkDefinitionCreationFlag", flags, start=0)
        self.NetworkDefinitionCreationFlag.__int__ = lambda member: member.value
        self.BuilderFlag = Enum("BuilderFlag", ["TF32"])
        kinds = ["CONVOLUTION", *(["ATTENTION_INPUT"] if attention else [])]
        self.LayerType = Enum("LayerType", kinds)
        if targets:
            self.ComputeCapability = Enum("ComputeCapability", ["NONE", "CURRENT", *targets])
        self._error, self._refuses = error, refuses
        self._answer, self._profile, self._targets = answer, profile, targets
        self.layers = [self.ILayer(kind) for kind in self.LayerType]

    class ILogger:
        ERROR, INTERNAL_ERROR, WARNING = range(3)

    class ILayer:
        def __init__(self, kind: Enum) -> None:
            self.type, self.attention = kind, SimpleNamespace(decomposable=False)

    class IAttentionInputLayer(ILayer):
        pass

    def Builder(self, log: "Double.ILogger") -> SimpleNamespace:
        def config() -> SimpleNamespace:
            made = SimpleNamespace(
                clear_flag=lambda flag: self.asked.setdefault("cleared", flag.name) and None,
                add_optimization_profile=lambda profile: self._profile,
            )
            if self._targets:
                made.num_compute_capabilities = 0
                made.set_compute_capability = lambda member, index: (
                    self.asked.update(target=member.name)
                    or (made.num_compute_capabilities == index + 1 and self._answer != "target")
                )
            return made

        def network(flags: int) -> SimpleNamespace:
            self.asked["flags"] = flags
            return SimpleNamespace(
                num_layers=len(self.layers), get_layer=lambda index: self.layers[index]
            )

        def plan(network: object, config: object) -> bytes | None:
            if self._answer == "build":
                log.log(0, "TopK node_neg: K exceeds the maximum")
                return None
            return b"plan"

        def profile() -> SimpleNamespace:
            return SimpleNamespace(
                set_shape=lambda name, *sizes: (
                    self.asked.setdefault("shapes", {name: sizes}) and None
                )
            )

        return SimpleNamespace(
            create_network=network,
            create_builder_config=config,
            create_optimization_profile=profile,
            build_serialized_network=plan,
        )

    def OnnxParser(self, network: object, log: object) -> SimpleNamespace:
        told = {
            "node": lambda: 1,
            "node_name": lambda: "node_neg",
            "node_operator": lambda: "Neg",
        }
        error = SimpleNamespace(
            code=lambda: "UNSUPPORTED_NODE",
            desc=lambda: "false",
            **{name: told[name] for name in self._error},
        )
        return SimpleNamespace(
            parse=lambda data, path: self._refuses == "",
            num_errors=1,
            get_error=lambda index: error,
        )


@pytest.fixture
def model() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Abs", ["x"], ["a"], "node_abs"),
        helper.make_node("Neg", ["a"], ["y"], "node_neg"),
    ]
    return helper.make_model(
        helper.make_graph(
            nodes,
            "graph",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
        )
    )


def plan(api: Double, model: onnx.ModelProto, *, target: str = "8.6", precision: str = "fp32"):
    return build_plan(
        api, model, path=Path("x.onnx"), shapes=SHAPES, target=target, precision=precision
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_builds(version: str, model: onnx.ModelProto) -> None:
    api = Double(**VERSIONS[version])
    assert plan(api, model) == b"plan"
    assert api.asked["cleared"] == "TF32"
    assert api.asked["shapes"] == SHAPES


@pytest.mark.parametrize(("version", "flags"), [("10.3", 0b11), ("11.0", 0b1), ("rtx", 0b1)])
def test_strong_typing_is_asked_for(version: str, flags: int) -> None:
    assert network_flags(Double(**VERSIONS[version])) == flags


def test_only_rtx_chooses_a_target(model: onnx.ModelProto) -> None:
    rtx, classic = Double(**VERSIONS["rtx"]), Double(**VERSIONS["11.4"])
    assert targets(rtx) == ["8.6", "12.0"]
    assert targets(classic) == []
    plan(rtx, model, target="12.0")
    plan(classic, model)
    assert rtx.asked["target"] == "SM120"
    assert "target" not in classic.asked


def test_half_precision_keeps_the_builder_flags(model: onnx.ModelProto) -> None:
    api = Double(**VERSIONS["11.0"])
    plan(api, model, precision="fp16")
    assert "cleared" not in api.asked


@pytest.mark.parametrize("version", VERSIONS)
def test_attention_is_decomposable_where_there_is_one(version: str, model: onnx.ModelProto) -> None:
    api = Double(**VERSIONS[version])
    plan(api, model)
    expected = [layer.type.name == "ATTENTION_INPUT" for layer in api.layers]
    assert [layer.attention.decomposable for layer in api.layers] == expected


@pytest.mark.parametrize("version", VERSIONS)
def test_parser_errors_name_the_node(version: str, model: onnx.ModelProto) -> None:
    api = Double(**VERSIONS[version], refuses="Neg")
    with pytest.raises(RefusedError, match=r"Neg \(node 'node_neg'\) is refused") as error:
        plan(api, model)
    assert [item.node for item in error.value.refused] == ["node_neg"]


def test_builder_errors_name_the_node(model: onnx.ModelProto) -> None:
    with pytest.raises(RefusedError, match="K exceeds") as error:
        plan(Double(**VERSIONS["11.4"], answer="build"), model)
    assert [item.node for item in error.value.refused] == ["node_neg"]


@pytest.mark.parametrize(
    ("fault", "call"),
    [({"answer": "target"}, "set_compute_capability"), ({"profile": -1}, "add_optimization")],
)
def test_an_answer_of_false_is_an_error(fault: dict, call: str, model: onnx.ModelProto) -> None:
    with pytest.raises(ExportError, match=call):
        plan(Double(**VERSIONS["rtx"], **fault), model)
