"""One way to build a plan with every TensorRT: 10.0 to 11.x and TensorRT-RTX, by feature detection.

TensorRT 11 and RTX know strong typing only and dropped precision flags, calibrators and the
explicit-batch flag; 10.x has to be asked for strong typing. So precision is always the graph's.
Many setters fail by returning False, which is checked everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.backends._tensorrt_graph import Refused, Shapes, nodes_of, refused_node
from toolkit.core.errors import ExportError

if TYPE_CHECKING:
    import onnx


class RefusedError(ExportError):
    """TensorRT does not take the graph; `refused` names the nodes where it says which.

    Arguments:
        what: What TensorRT answered.
        refused: The nodes.
        where: The ONNX file.
    """

    def __init__(self, what: str, refused: Sequence[Refused], *, where: str) -> None:
        super().__init__(what, where=where, next_step="rewrite these nodes, or leave this engine")
        self.refused = list(refused)


def recording_logger(api: Any) -> Any:
    """Return a logger that keeps TensorRT's error messages in `errors`."""

    class RecordingLogger(api.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            api.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (api.ILogger.ERROR, api.ILogger.INTERNAL_ERROR):
                self.errors.append(message)

    return RecordingLogger()


def network_flags(api: Any) -> int:
    """Return the creation flags: strong typing and explicit batch where this version has them."""
    members = api.NetworkDefinitionCreationFlag.__members__
    wanted = ("STRONGLY_TYPED", "EXPLICIT_BATCH")
    return sum(1 << int(members[name]) for name in wanted if name in members)


def targets(api: Any) -> list[str]:
    """Return the compute capabilities this version builds for; none where it takes the GPU here."""
    members = getattr(getattr(api, "ComputeCapability", None), "__members__", {})
    names = (re.fullmatch(r"SM(\d+)(\d)", name) for name in members)
    return [f"{match[1]}.{match[2]}" for match in names if match]


def build_plan(
    api: Any,
    model: onnx.ModelProto,
    *,
    path: Path,
    shapes: Shapes,
    target: str,
    precision: str,
) -> bytes:
    """Build one plan.

    Arguments:
        api: The module `tensorrt` or `tensorrt_rtx`.
        model: The graph without functions.
        path: The graph's file; weights outside it are looked up beside it.
        shapes: Per dynamic input: smallest, typical and largest shape.
        target: Compute capability such as `8.6`; set where the version can choose one.
        precision: Precision of the graph; `fp32` forbids TF32.

    Raises:
        RefusedError: TensorRT does not take the graph.
        ExportError: TensorRT refused a setting.
    """
    log = recording_logger(api)
    builder = api.Builder(log)
    network = builder.create_network(network_flags(api))
    parser = api.OnnxParser(network, log)
    if not parser.parse(model.SerializeToString(), str(path)):
        raise _parser_refusal(parser, model, path)
    make_attention_decomposable(api, network)
    config = configure(api, builder, shapes=shapes, target=target, precision=precision)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise _builder_refusal(log.errors, model, path)
    return bytes(plan)


def configure(api: Any, builder: Any, *, shapes: Shapes, target: str, precision: str) -> Any:
    """Return the builder's configuration.

    Raises:
        ExportError: TensorRT refused a setting.
    """
    config = builder.create_builder_config()
    if precision == "fp32" and "TF32" in api.BuilderFlag.__members__:
        _checked(config.clear_flag(api.BuilderFlag.TF32), "clear_flag(TF32)")
    if targets(api):
        config.num_compute_capabilities = 1
        member = getattr(api.ComputeCapability, f"SM{target.replace('.', '')}")
        _checked(config.set_compute_capability(member, 0), f"set_compute_capability({target})")
    if shapes:
        profile = builder.create_optimization_profile()
        for name, (low, typical, high) in shapes.items():
            _checked(profile.set_shape(name, low, typical, high), f"set_shape({name})")
        _checked(config.add_optimization_profile(profile) != -1, "add_optimization_profile")
    return config


def make_attention_decomposable(api: Any, network: Any) -> None:
    """Let TensorRT break `Attention` up where it has no fused kernel, as in float32."""
    kind = getattr(api.LayerType, "ATTENTION_INPUT", None)
    if kind is None:
        return
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.type == kind:
            # The binding returns the base class, which has no access to the attention.
            layer.__class__ = api.IAttentionInputLayer
            layer.attention.decomposable = True


def _checked(answer: object, call: str) -> None:
    if answer is False:
        raise ExportError(
            f"TensorRT answered False to {call}",
            next_step="see whether this version supports the target and the shapes",
        )


def _parser_refusal(parser: Any, model: onnx.ModelProto, path: Path) -> RefusedError:
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    found = [
        refused_node(
            model,
            error.node_operator() if hasattr(error, "node_operator") else "",
            error.node_name() if hasattr(error, "node_name") else "",
            error.node(),
        )
        for error in errors
    ]
    refused = list(dict.fromkeys(item for item in found if item.operator))
    texts = [_parser_text(error) for error in errors]
    return RefusedError(
        "; ".join(dict.fromkeys([*map(str, refused), *texts])), refused, where=str(path)
    )


def _parser_text(error: Any) -> str:
    code = getattr(error.code(), "name", str(error.code()))
    text = error.desc()
    return code if text in ("", "false") else f"{code}: {text}"


def _builder_refusal(errors: list[str], model: onnx.ModelProto, path: Path) -> RefusedError:
    """Return the refusal with the nodes that the builder's messages name."""
    # A fused region is named after its ends, which says nothing about them.
    text = re.sub(r"ForeignNode\[.*?\]", "", " ".join(errors))
    words = set(re.findall(r"[\w./]+", text))
    refused = [
        refused_node(model, node.op_type, node.name)
        for node in nodes_of(model.graph)
        if node.name and node.name in words
    ]
    said = errors[0].strip() if errors else "it gave no reason"
    return RefusedError("; ".join([*map(str, refused), said[:500]]), refused, where=str(path))
