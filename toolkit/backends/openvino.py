"""OpenVINO on the CPU, in the precision that the graph is written in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from toolkit.core.errors import ExportError
from toolkit.core.protocols import Artifact
from toolkit.core.require import install_line, installed, require

if TYPE_CHECKING:
    import numpy as np

    Arrays = dict[str, np.ndarray]

# Its default is bfloat16 on processors that have it, without a warning.
PRECISION = "f32"


class OpenVinoRunner:
    """A compiled OpenVINO model.

    Arguments:
        compiled: The `openvino.CompiledModel`.
        outputs: Names in the graph's order.
        settings: The precision it really runs in, threads and streams.
    """

    def __init__(self, compiled: Any, outputs: list[str], settings: dict[str, Any]) -> None:
        self.settings = settings
        self._outputs = outputs
        self._request = compiled.create_infer_request()

    def __call__(self, feeds: Arrays) -> Arrays:
        """Run once and return every output by name."""
        result = self._request.infer(feeds)
        return {name: result[i].copy() for i, name in enumerate(self._outputs)}

    def prepare(self, feeds: Arrays) -> Callable[[], object]:
        """Place the inputs in the request; its outputs stay there."""
        self._request.infer(feeds, share_inputs=False)
        request = self._request

        def run() -> None:
            request.start_async()
            request.wait()

        return run

    def close(self) -> None:
        """Release the request and its model."""
        self._request = None


class OpenVino:
    """Run `.onnx` files through OpenVINO's own reader."""

    formats = ("onnx",)

    def absent(self, *, device: str = "cpu", providers: Sequence[str] = ("cpu",)) -> str:  # noqa: ARG002
        """Return why it cannot run here; empty where it can."""
        if not installed("openvino"):
            return f"openvino is not installed: {install_line('openvino')}"
        if device != "cpu":
            return f"OpenVINO has no device {device!r} here: choose --device cpu"
        return ""

    def open(
        self,
        artifact: Artifact,
        *,
        threads: int = 1,
        device: str = "cpu",
        providers: Sequence[str] = ("cpu",),  # noqa: ARG002
    ) -> OpenVinoRunner:
        """Read and compile a graph for one stream, in float32 where the graph is.

        Raises:
            MissingError: OpenVINO is not installed.
            ExportError: OpenVINO refuses the graph.
        """
        openvino = require("openvino", extra="openvino")
        options = {
            "INFERENCE_PRECISION_HINT": PRECISION,
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
        }
        try:
            compiled = openvino.Core().compile_model(str(artifact.path), device.upper(), options)
        except RuntimeError as error:
            raise ExportError(
                f"OpenVINO refuses the graph: {error}",
                where=str(artifact.path),
                next_step="leave this backend out",
            ) from error
        effective = compiled.get_property("INFERENCE_PRECISION_HINT")
        settings = {"threads": threads, "device": device, "precision": effective.get_type_name()}
        return OpenVinoRunner(compiled, [o.name for o in artifact.signature.outputs], settings)


backend = OpenVino()
