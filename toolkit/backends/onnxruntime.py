"""ONNX Runtime on any of its execution providers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from toolkit.backends._providers import resolve, trouble
from toolkit.core.errors import ExportError, IntegrityError, ToolkitError, UsageError
from toolkit.core.protocols import Artifact
from toolkit.core.require import install_line, installed, require
from toolkit.runtime.providers import open_session

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    Arrays = dict[str, np.ndarray]

QUIET = 3
RECORD_PLACES = "session.record_ep_graph_assignment_info"
FLOATS = {
    "tensor(float16)": "float16",
    "tensor(float)": "float32",
    "tensor(double)": "float64",
}


class OnnxRuntimeRunner:
    """An open session.

    Arguments:
        session: The `onnxruntime.InferenceSession`.
        settings: What may change speed or answers, as the session has it.
        device: Where timed calls keep inputs and outputs: `cpu`, `cuda` or `cuda:0`.
        place: Copies an array to a device.
    """

    def __init__(
        self, session: Any, settings: dict[str, Any], *, device: str, place: Callable[..., Any]
    ) -> None:
        self.settings = settings
        self._device, self._place = device, place
        self._session = session
        self._types = {item.name: item.type for item in session.get_inputs()}
        self._outputs = [item.name for item in session.get_outputs()]

    def __call__(self, feeds: Arrays) -> Arrays:
        """Run once and return every output by name.

        Raises:
            UsageError: An input is missing.
            ExportError: ONNX Runtime fails on these inputs.
        """
        placed = self._placed(feeds)
        try:
            values = self._session.run(self._outputs, placed)
        except _refusals() as error:
            shapes = ", ".join(f"{name}{list(array.shape)}" for name, array in placed.items())
            raise ExportError(
                f"onnxruntime fails while it runs the graph: {error}",
                where=shapes,
                next_step="see which node: toolkit debug",
            ) from error
        return dict(zip(self._outputs, values, strict=True))

    def prepare(self, feeds: Arrays) -> Callable[[], object]:
        """Place the inputs on the device; bind outputs by name: shapes may depend on inputs."""
        session, binding = self._session, self._session.io_binding()
        kind, number = self._device.partition(":")[0], _number(self._device)
        for name, array in self._placed(feeds).items():
            value = self._place(array, kind, number)
            binding.bind_ortvalue_input(name, value)
        for name in self._outputs:
            binding.bind_output(name, kind, number)

        def run_and_wait() -> None:
            session.run_with_iobinding(binding)
            binding.synchronize_outputs()

        return (lambda: session.run_with_iobinding(binding)) if kind == "cpu" else run_and_wait

    def close(self) -> None:
        """Release the session."""
        self._session = None

    def _placed(self, feeds: Arrays) -> Arrays:
        import numpy as np

        if missing := self._types.keys() - feeds.keys():
            raise UsageError(
                f"no value is given for {', '.join(sorted(missing))}",
                where="feeds: " + ", ".join(sorted(feeds)),
                next_step="give an array for every input of the graph",
            )
        return {
            name: np.asarray(_as_float(feeds[name], wanted), order="C")
            for name, wanted in self._types.items()
        }


class OnnxRuntime:
    """Run `.onnx` files; the graph's own precision, sequential execution, quiet log."""

    formats = ("onnx",)

    def absent(self, *, device: str = "cpu", providers: Sequence[str] = ("cpu",)) -> str:
        """Return why it cannot run here; empty where it can."""
        if not installed("onnxruntime"):
            extra = "cpu" if device == "cpu" else "gpu"
            return f"onnxruntime is not installed: {install_line(extra)}"
        try:
            names = resolve(_wanted(device, providers))
        except ToolkitError as error:
            return f"{error.what}: {error.next_step}"
        return next(filter(None, (trouble(name, _number(device)) for name in names)), "")

    def open(
        self,
        artifact: Artifact,
        *,
        threads: int = 1,
        device: str = "cpu",
        providers: Sequence[str] = ("cpu",),
    ) -> OnnxRuntimeRunner:
        """Load a graph.

        Raises:
            MissingError: ONNX Runtime or a provider is not installed, or a provider does not start.
            IntegrityError: The file is not there or is damaged.
            ExportError: ONNX Runtime refuses the graph.
        """
        runtime = require("onnxruntime", extra="cpu")
        names = resolve(_wanted(device, providers))
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = QUIET
        options.use_deterministic_compute = True
        options.add_session_config_entry(RECORD_PLACES, "1")
        session = _session(artifact.path, options, names, device)
        settings = {
            "threads": threads,
            "providers": list(session.get_providers()),
            "nodes": _places(session),
            "deterministic": True,
            "optimization": options.graph_optimization_level.name,
        }
        place = runtime.OrtValue.ortvalue_from_numpy
        return OnnxRuntimeRunner(session, settings, device=device, place=place)


def _wanted(device: str, providers: Sequence[str]) -> list[str]:
    """Return the asked providers, the device's own where only the default is asked; CPU last."""
    asked = list(providers)
    if device.startswith("cuda") and asked in ([], ["cpu"]):
        asked = ["cuda"]
    return [*(name for name in asked if name != "cpu"), "cpu"]


def _places(session: Any) -> dict[str, int]:
    """Return how many nodes each provider took: what one lacks runs on the processor."""
    counts = Counter[str]()
    for part in session.get_provider_graph_assignment_info():
        counts[part.ep_name] += len(part.get_nodes())
    return dict(counts)


def _number(device: str) -> int:
    """Return which GPU a device is."""
    return int(device.partition(":")[2] or 0)


def _session(path: Path, options: Any, providers: list[str], device: str) -> Any:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    damaged = (state.InvalidProtobuf, state.NoSuchFile, state.NoModel)
    try:
        return open_session(str(path), options, providers, device=_number(device))
    except damaged as error:
        raise IntegrityError(
            f"the graph cannot be read: {error}", where=str(path), next_step="make it again"
        ) from error
    except _refusals() as error:
        raise ExportError(
            f"onnxruntime refuses the graph: {error}",
            where=str(path),
            next_step="leave this variant out, or export with another opset",
        ) from error


def _refusals() -> tuple[type[Exception], ...]:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return (
        state.Fail,
        state.InvalidArgument,
        state.InvalidGraph,
        state.NotImplemented,
        state.RuntimeException,
        state.EPFail,
    )


def _as_float(array: np.ndarray, wanted: str) -> np.ndarray:
    """Convert between float precisions only: a variant may take halves for the entry's floats."""
    if array.dtype.kind == "f" and wanted in FLOATS:
        return array.astype(FLOATS[wanted], copy=False)
    return array


backend = OnnxRuntime()
