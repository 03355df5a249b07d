"""What `bench/gpu.py` times: each contestant makes a call that only enqueues on one CUDA stream."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from toolkit.backends._providers import resolve
from toolkit.backends._tensorrt_build import device_capability
from toolkit.core.engine import EngineJob
from toolkit.core.errors import ExportError, MissingError, ToolkitError
from toolkit.core.protocols import Artifact
from toolkit.core.registry import backends
from toolkit.core.require import installed, require
from toolkit.core.signature import Signature
from toolkit.runtime.providers import open_session

if TYPE_CHECKING:
    import numpy as np

Tensors = dict[str, torch.Tensor]
Call = Callable[[], object]
ENGINES = ("tensorrt", "tensorrt-rtx")
MODULES = ("eager", "compile")
PROVIDERS = ("cuda", "tensorrt")
TORCH_TYPES = {
    "tensor(float)": torch.float32,
    "tensor(float16)": torch.float16,
    "tensor(double)": torch.float64,
    "tensor(int64)": torch.int64,
    "tensor(int32)": torch.int32,
    "tensor(bool)": torch.bool,
}


@dataclass(frozen=True)
class Subject:
    """One entry at one batch, with all that contestants are made from.

    Arguments:
        signature: The entry's signature.
        module: Makes the eager module.
        graphs: Precision to the `.onnx` file that ONNX Runtime runs.
        sources: Precision to the `.onnx` file that engines are built from.
        feeds: The inputs.
        shapes: Per dynamic dimension: minimum, typical, maximum of an engine built here.
        stream: The stream that everything is enqueued on.
    """

    signature: Signature
    module: Callable[[], torch.nn.Module]
    graphs: dict[str, Path]
    sources: dict[str, Path]
    feeds: dict[str, np.ndarray]
    shapes: dict[str, tuple[int, int, int]]
    stream: torch.cuda.Stream

    def tensors(self) -> Tensors:
        """Return the inputs on the device."""
        return {name: torch.tensor(array, device="cuda") for name, array in self.feeds.items()}


@dataclass
class Opened:
    """A contestant ready to be timed.

    Arguments:
        name: What runs.
        precision: Precision of the variant.
        graph: Whether the call replays a CUDA graph.
        call: Enqueues one run on the current stream.
        outputs: Reads what the last call left, by name.
        close: Releases it.
    """

    name: str
    precision: str
    graph: bool
    call: Call
    outputs: Callable[[], Tensors]
    close: Callable[[], object] = field(default=lambda: None)


def contestants(subject: Subject) -> Iterator[tuple[str, Callable[[], Opened]]]:
    """Yield a label and what opens it; opening raises where it cannot run."""
    for graph in (False, True):
        suffix = " CUDA graph" if graph else ""
        for name in MODULES:
            yield f"{name}{suffix}", partial(_module, subject, name, graph=graph)
        for provider in PROVIDERS:
            for precision in subject.graphs:
                label = f"onnxruntime {provider} {precision}{suffix}"
                yield label, partial(_onnxruntime, subject, provider, precision, graph=graph)
        for engine in ENGINES:
            for precision in subject.sources:
                label = f"{engine} {precision}{suffix}"
                yield label, partial(_engine, subject, engine, precision, graph=graph)


def absences() -> dict[str, str]:
    """Return what cannot run on this machine at all, with the reasons."""
    found = {name: backends.load(name).absent(device="cuda") for name in (*MODULES, *ENGINES)}
    for provider in PROVIDERS:
        reason = backends.load("onnxruntime").absent(device="cuda", providers=(provider,))
        found[f"onnxruntime {provider}"] = reason
    return {name: reason for name, reason in found.items() if reason}


def captured(call: Call, stream: torch.cuda.Stream) -> Call:
    """Return the replay of a CUDA graph of `call`, after warming it up as capture needs.

    A graph knows addresses alone: what it reads is kept as long as its replay.
    """
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        call()

    def replay(_: Call = call) -> None:
        graph.replay()

    return replay


def _module(subject: Subject, name: str, *, graph: bool) -> Opened:
    _require(backends.load(name).absent(device="cuda"))
    module = subject.module().cuda().eval()
    run: Any = torch.compile(module, dynamic=False) if name == "compile" else module
    inputs = [subject.tensors()[spec.name] for spec in subject.signature.inputs]
    latest: list[Any] = []

    def call() -> None:
        with torch.inference_mode():
            latest[:] = [run(*inputs)]

    def outputs() -> Tensors:
        (answer,) = latest
        values = answer if isinstance(answer, tuple | list) else (answer,)
        names = (spec.name for spec in subject.signature.outputs)
        return dict(zip(names, values, strict=True))

    return Opened(
        name,
        "fp32",
        graph,
        captured(call, subject.stream) if graph else call,
        outputs,
        torch.compiler.reset,
    )


def _onnxruntime(subject: Subject, provider: str, precision: str, *, graph: bool) -> Opened:
    onnxruntime = require("onnxruntime", extra="gpu")
    names = resolve([provider, "cuda", "cpu"])
    stream = str(subject.stream.cuda_stream)
    switch = "1" if graph else "0"
    settings: dict[str, dict[str, str]] = {
        "CUDAExecutionProvider": {
            "user_compute_stream": stream,
            "enable_cuda_graph": switch if provider == "cuda" else "0",
        },
        "TensorrtExecutionProvider": {
            "user_compute_stream": stream,
            "trt_cuda_graph_enable": switch,
        },
    }
    session = open_session(
        str(subject.graphs[precision]), onnxruntime.SessionOptions(), names, further=settings
    )
    inputs = subject.tensors()
    for item in session.get_inputs():
        inputs[item.name] = inputs[item.name].to(TORCH_TYPES[item.type])
    outputs = _allocated(subject.graphs[precision], inputs)
    binding = session.io_binding()
    for name, tensor in inputs.items():
        binding.bind_input(name, **_binding_of(tensor))
    for name, tensor in outputs.items():
        binding.bind_output(name, **_binding_of(tensor))
    options = onnxruntime.RunOptions()
    # The stream is ours, and the events on it tell when a run ended.
    options.add_run_config_entry("disable_synchronize_execution_providers", "1")

    # A binding knows addresses alone: the call keeps the inputs.
    def call(_: Tensors = inputs) -> None:
        session.run_with_iobinding(binding, options)

    return Opened(f"onnxruntime {provider}", precision, graph, call, lambda: outputs)


def _allocated(path: Path, inputs: Tensors) -> Tensors:
    """Run once on the processor to learn the outputs' shapes, and allocate them on the device."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    values = session.run(None, {name: tensor.cpu().numpy() for name, tensor in inputs.items()})
    return {
        item.name: torch.empty(value.shape, dtype=TORCH_TYPES[item.type], device="cuda")
        for item, value in zip(session.get_outputs(), values, strict=True)
    }


def _binding_of(tensor: torch.Tensor) -> dict[str, Any]:
    import numpy as np

    return {
        "device_type": "cuda",
        "device_id": tensor.device.index,
        "element_type": np.dtype(str(tensor.dtype).removeprefix("torch.")).type,
        "shape": tuple(tensor.shape),
        "buffer_ptr": tensor.data_ptr(),
    }


def _engine(subject: Subject, name: str, precision: str, *, graph: bool) -> Opened:
    """Build an engine for the GPU here and open it."""
    backend = backends.load(name)
    _require(backend.absent(device="cuda") or backend.cannot_build())
    with tempfile.TemporaryDirectory(prefix="toolkit-") as scratch:
        path = Path(scratch, "here.engine")
        job = EngineJob(
            str(subject.sources[precision]),
            str(path),
            device_capability(),
            precision,
            subject.shapes,
        )
        (result,) = backend.build([job], timeout=600.0)
        if result["status"] != "ok":
            raise ExportError(result["reason"])
        runner = backend.open(Artifact(path, subject.signature, precision), device="cuda:0")
    bound = runner.bind(subject.feeds)

    def call() -> None:
        bound.enqueue(torch.cuda.current_stream().cuda_stream)

    ready = captured(call, subject.stream) if graph else call
    return Opened(name, precision, graph, ready, lambda: bound.outputs, runner.close)


def _require(reason: str) -> None:
    if reason:
        raise MissingError(reason)


def failures() -> tuple[type[Exception], ...]:
    """Return the exceptions that cost one contestant and not the run."""
    found: list[type[Exception]] = [ToolkitError, RuntimeError, ValueError, TypeError, KeyError]
    if installed("onnxruntime"):
        from onnxruntime.capi import onnxruntime_pybind11_state as state

        found += [
            state.EPFail,
            state.Fail,
            state.InvalidArgument,
            state.InvalidGraph,
            state.NoSuchFile,
            state.NotImplemented,
            state.RuntimeException,
        ]
    return tuple(found)
