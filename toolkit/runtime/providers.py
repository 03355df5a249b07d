"""onnxruntime's execution providers: their names, and sessions that have all of them."""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from toolkit.core.errors import MissingError
from toolkit.runtime.strict import nearest, shown

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "tensorrt-rtx": "NvTensorRTRTXExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "dml": "DmlExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
}
# What each of NVIDIA's providers loads, beside the driver.
_LIBRARIES = {
    PROVIDERS["cuda"]: "pip install 'onnxruntime-gpu[cuda,cudnn]' nvidia-cublas, and the driver",
    PROVIDERS["tensorrt"]: "pip install 'tensorrt>=10.3,<11'",
}


def onnxruntime() -> Any:
    """Import onnxruntime.

    Raises:
        MissingError: It is not installed.
    """
    try:
        import onnxruntime as module
    except ImportError as error:
        raise MissingError(
            f"onnxruntime is not usable here: {error}", next_step="pip install onnxruntime"
        ) from error
    return module


def provider_names(providers: Sequence[str]) -> list[str]:
    """Return onnxruntime's names of providers given in short or in full.

    Raises:
        MissingError: This build of onnxruntime does not have one.
    """
    full = [PROVIDERS.get(name, name) for name in providers]
    available = onnxruntime().get_available_providers()
    for name in full:
        if name not in available:
            raise MissingError(
                f"onnxruntime has no {shown(name)!r} here",
                where="available: " + ", ".join(available),
                next_step=f"{nearest(name, list(PROVIDERS.values()))}; "
                "for NVIDIA: pip install onnxruntime-gpu in place of onnxruntime",
            )
    return full


def open_session(
    graph: str | bytes,
    options: Any,
    providers: Sequence[str],
    *,
    device: int = 0,
    further: Mapping[str, dict[str, str]] | None = None,
) -> Any:
    """Return a session that has every provider asked for, or none at all.

    Left to itself, onnxruntime goes on without a provider that does not start, and what is then
    judged and timed on the processor passes for a GPU's.

    Arguments:
        graph: The `.onnx` file, or its content.
        options: `onnxruntime.SessionOptions`.
        providers: onnxruntime's names, in order of preference.
        device: Which of the GPUs.
        further: Options by provider, beside those that every session has: the device, and float32
            that is float32 (no TF32).

    Raises:
        MissingError: A provider does not start; onnxruntime prints its reason.
    """
    module = onnxruntime()
    _load_libraries(module, providers)
    # To name the first device is to be warned that no plugin brings it.
    number = {"device_id": str(device)} if device else {}
    every = {
        PROVIDERS["cuda"]: {**number, "use_tf32": "0"},
        PROVIDERS["tensorrt"]: {**number, **_built_before()},
    }
    given = [(name, {**every.get(name, {}), **(further or {}).get(name, {})}) for name in providers]
    try:
        session = module.InferenceSession(graph, options, providers=given, enable_fallback=0)
    except RuntimeError as error:
        started = next((name for name in providers if name != PROVIDERS["cpu"]), None)
        if started is None:
            raise
        raise _does_not_start(started) from error
    for name in providers:
        if name not in session.get_providers():
            raise _does_not_start(name)
    return session


def _built_before() -> dict[str, str]:
    """Return options by which a process builds the engine of a graph and its shapes once."""
    folder = _scratch().name
    return {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": folder,
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": folder,
    }


@functools.cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    """Return a folder that goes with the process."""
    return tempfile.TemporaryDirectory(prefix="toolkit-")


def _load_libraries(module: Any, providers: Sequence[str]) -> None:
    """Load CUDA, cuDNN and TensorRT from where pip put them: onnxruntime finds what is loaded."""
    if {PROVIDERS["cuda"], PROVIDERS["tensorrt"]} & {*providers}:
        with contextlib.redirect_stdout(sys.stderr):
            module.preload_dlls()
    if PROVIDERS["tensorrt"] in providers:
        # This provider has no option against TF32; NVIDIA's libraries read the environment.
        os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
        with contextlib.suppress(ImportError):
            importlib.import_module("tensorrt")


def _does_not_start(provider: str) -> MissingError:
    return MissingError(
        f"onnxruntime's {provider} does not start here",
        where="onnxruntime says above which library or driver it misses",
        next_step=_LIBRARIES.get(provider, "install what the provider needs"),
    )
