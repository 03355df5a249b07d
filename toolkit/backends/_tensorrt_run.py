"""Run an engine on CUDA, its buffers being torch tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.backends._tensorrt_api import recording_logger
from toolkit.backends._tensorrt_build import build_isolated
from toolkit.backends._torch import absent_reason
from toolkit.core.engine import BuildProgress, EngineJob
from toolkit.core.errors import ExportError, MissingError, UsageError
from toolkit.core.protocols import Artifact
from toolkit.core.require import install_line, installed, require

if TYPE_CHECKING:
    import numpy as np
    import torch

    Arrays = dict[str, np.ndarray]

DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "BF16": "bfloat16",
    "INT64": "int64",
    "INT32": "int32",
    "INT8": "int8",
    "UINT8": "uint8",
    "BOOL": "bool",
}


@dataclass(frozen=True, slots=True)
class EngineBackend:
    """TensorRT or TensorRT-RTX: builds engines, and runs them on CUDA.

    Arguments:
        package: The module, `tensorrt` or `tensorrt_rtx`.
        extra: The toolkit's extra that installs it.
        needs_gpu: Whether building needs a GPU too.
        formats: What it runs.
    """

    package: str
    extra: str
    needs_gpu: bool
    formats: tuple[str, ...] = ("engine",)

    def absent(self, *, device: str = "cuda", providers: Sequence[str] = ()) -> str:
        """Return why engines cannot run here, with the line that installs it; empty where they can.

        Arguments:
            device: `cuda` or `cuda:1`; an engine runs on CUDA whatever is said here.
            providers: Not used by engines.
        """
        del providers
        if not installed(self.package):
            return f"the package {self.package} is not installed: {install_line(self.extra)}"
        return absent_reason(_on_cuda(device))

    def cannot_build(self) -> str:
        """Return why engines cannot be built here; empty where they can."""
        if not installed(self.package):
            return f"the package {self.package} is not installed: {install_line(self.extra)}"
        return absent_reason("cuda") if self.needs_gpu else ""

    def build(
        self, jobs: Sequence[EngineJob], *, timeout: float, progress: BuildProgress | None = None
    ) -> list[dict[str, Any]]:
        """Build engines in a child process and return one result per job.

        Arguments:
            jobs: The engines, in order.
            timeout: Seconds that one build may take.
            progress: Called with each job and its result.
        """
        return build_isolated(self.package, self.extra, jobs, timeout=timeout, progress=progress)

    def open(
        self,
        artifact: Artifact,
        *,
        threads: int = 1,
        device: str = "cuda",
        providers: Sequence[str] = (),
    ) -> EngineRunner:
        """Load an engine.

        Raises:
            MissingError: The package or a CUDA device is absent.
            ExportError: The library does not load this engine.
        """
        del threads
        reason = self.absent(device=device, providers=providers)
        if reason:
            raise MissingError(reason, where=str(artifact.path))
        package = require(self.package, extra=self.extra)
        return EngineRunner(package, artifact.path, _on_cuda(device))


def _on_cuda(device: str) -> str:
    return device if device.startswith("cuda") else "cuda"


def _context_of(api: Any, engine: Any) -> Any:
    """Return an execution context whose kernels for the asked shapes are ready when it is asked.

    TensorRT-RTX else starts with general kernels and compiles those for a shape meanwhile: what is
    timed would change, and a CUDA graph keep the general ones.
    """
    strategies = getattr(api, "DynamicShapesKernelSpecializationStrategy", None)
    if strategies is None:
        return engine.create_execution_context()
    config = engine.create_runtime_config()
    config.dynamic_shapes_kernel_specialization_strategy = strategies.EAGER
    return engine.create_execution_context(config)


@dataclass(frozen=True, slots=True)
class Bound:
    """One execution context with its tensors; it keeps them alive.

    Arguments:
        context: TensorRT's execution context.
        inputs: Input tensors by name.
        outputs: Output tensors by name; each run overwrites them.
        path: The engine.
        device: Its torch device.
    """

    context: Any
    inputs: dict[str, torch.Tensor]
    outputs: dict[str, torch.Tensor]
    path: Path
    device: str

    def enqueue(self, stream: int) -> None:
        """Enqueue one run on a CUDA stream, given by its handle, without waiting.

        Raises:
            ExportError: TensorRT did not take the call.
        """
        import torch

        with torch.cuda.device(self.device):
            taken = self.context.execute_async_v3(stream_handle=stream)
        if not taken:
            raise ExportError("TensorRT did not run the engine", where=str(self.path))


@dataclass(slots=True)
class EngineRunner:
    """An opened engine.

    Arguments:
        api: The module `tensorrt` or `tensorrt_rtx`.
        path: The engine.
        device: A torch device such as `cuda:0`.
    """

    api: Any
    path: Path
    device: str
    settings: dict[str, Any] = field(init=False)
    _engine: Any = field(init=False)
    _context: Any = field(init=False)
    _stream: Any = field(init=False)

    def __post_init__(self) -> None:
        import torch

        log = recording_logger(self.api)
        with torch.cuda.device(self.device):
            self._engine = self.api.Runtime(log).deserialize_cuda_engine(self.path.read_bytes())
            self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        if self._engine is None:
            raise ExportError(
                "the engine does not load: " + (log.errors[0] if log.errors else "no reason given"),
                where=str(self.path),
                next_step="build it with this library version for this GPU",
            )
        self._context = self._new_context()
        gpu = torch.cuda.get_device_name(self.device)
        self.settings = {"library": self.api.__version__, "device": self.device, "gpu": gpu}

    def __call__(self, feeds: Arrays) -> Arrays:
        """Run once and return every output by name."""
        bound = self._bind(self._context, feeds)
        bound.enqueue(self._stream.cuda_stream)
        self._stream.synchronize()
        return {name: tensor.cpu().numpy() for name, tensor in bound.outputs.items()}

    def prepare(self, feeds: Arrays) -> Callable[[], object]:
        """Return the bare call: inputs lie on the device, outputs stay there, it waits."""
        bound, stream = self.bind(feeds), self._stream

        def run() -> None:
            bound.enqueue(stream.cuda_stream)
            stream.synchronize()

        return run

    def bind(self, feeds: Arrays) -> Bound:
        """Place the inputs on the device, for calls that a caller enqueues on its own stream."""
        return self._bind(self._new_context(), feeds)

    def _new_context(self) -> Any:
        import torch

        with torch.cuda.device(self.device):
            context = _context_of(self.api, self._engine)
        if context is None:
            raise ExportError(
                "the engine gives no execution context",
                where=str(self.path),
                next_step="free GPU memory, or build it with this library version for this GPU",
            )
        return context

    def _bind(self, context: Any, feeds: Arrays) -> Bound:
        import torch

        with torch.cuda.device(self.device):
            bound = self._addressed(context, feeds)
        self._stream.wait_stream(torch.cuda.current_stream(self.device))
        return bound

    def _addressed(self, context: Any, feeds: Arrays) -> Bound:
        tensors = {name: self._place(name, feeds) for name in self._names("INPUT")}
        for name, tensor in tensors.items():
            # Before the outputs' shapes are asked: they may depend on the numbers of an input.
            context.set_tensor_address(name, tensor.data_ptr())
            if not context.set_input_shape(name, tuple(tensor.shape)):
                raise UsageError(
                    f"the engine does not take {name!r} of shape {list(tensor.shape)}",
                    where=str(self.path),
                    next_step="stay within the shapes it was built for, or build it for these",
                )
        outputs = {name: self._allocate(context, name) for name in self._names("OUTPUT")}
        for name, tensor in outputs.items():
            context.set_tensor_address(name, tensor.data_ptr())
        return Bound(context, tensors, outputs, self.path, self.device)

    def close(self) -> None:
        """Release context and engine, the context first."""
        self._context = None
        self._engine = None

    def _names(self, mode: str) -> list[str]:
        wanted = getattr(self.api.TensorIOMode, mode)
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        return [name for name in names if self._engine.get_tensor_mode(name) == wanted]

    def _dtype(self, name: str) -> torch.dtype:
        import torch

        found: torch.dtype = getattr(torch, DTYPES[self._engine.get_tensor_dtype(name).name])
        return found

    def _place(self, name: str, feeds: Arrays) -> torch.Tensor:
        import torch

        if name not in feeds:
            raise UsageError(
                f"no value is given for {name}",
                where="feeds: " + ", ".join(sorted(feeds)),
                next_step="give an array for every input of the engine",
            )
        tensor, dtype = torch.tensor(feeds[name]), self._dtype(name)
        # A variant may take halves for the entry's floats; any other type has to be right.
        if tensor.dtype != dtype and not (tensor.is_floating_point() and dtype.is_floating_point):
            raise UsageError(
                f"the engine takes {name!r} as {dtype}, not {tensor.dtype}",
                where=str(self.path),
                next_step="give the types of the entry's signature",
            )
        return tensor.to(self._location(name), dtype)

    def _allocate(self, context: Any, name: str) -> torch.Tensor:
        import torch

        shape = tuple(context.get_tensor_shape(name))
        if any(size < 0 for size in shape):
            raise UsageError(
                f"the shape of the output {name!r} depends on the data",
                where=str(self.path),
                next_step="export the entry with outputs of known shape",
            )
        return torch.empty(shape, dtype=self._dtype(name), device=self._location(name))

    def _location(self, name: str) -> str:
        """Return where a tensor lies: TensorRT reads and writes shape tensors on the host."""
        host = self._engine.get_tensor_location(name) == self.api.TensorLocation.HOST
        return "cpu" if host else self.device
