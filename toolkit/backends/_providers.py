"""Short names of ONNX Runtime's execution providers, and which of them are usable here."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from toolkit.core.errors import MissingError, UsageError
from toolkit.core.registry import nearest
from toolkit.core.require import install_line, require
from toolkit.runtime.providers import PROVIDERS, open_session

SMALLEST = '<ir_version: 8, opset_import: ["": 18]> g (float[1] x) => (float[1] y) { y = Neg(x) }'
INSTALL_LINES = {
    "CPUExecutionProvider": install_line("cpu"),
    "CUDAExecutionProvider": install_line("gpu"),
    "TensorrtExecutionProvider": install_line("gpu"),
    "OpenVINOExecutionProvider": "pip install onnxruntime-openvino in place of onnxruntime",
    "DmlExecutionProvider": "on Windows: pip install onnxruntime-directml in place of onnxruntime",
    "CoreMLExecutionProvider": f"on macOS: {install_line('cpu')}",
}


def full_name(name: str) -> str:
    """Return the `*ExecutionProvider` name of a short or full name.

    Raises:
        UsageError: No provider is called so; the nearest is named.
    """
    wanted = name.strip()
    if wanted.lower() in PROVIDERS:
        return PROVIDERS[wanted.lower()]
    runtime = require("onnxruntime", extra="cpu")
    known = {*PROVIDERS.values(), *runtime.get_all_providers()}
    if wanted in known:
        return wanted
    raise UsageError(
        f"no execution provider is called {name!r}",
        where="--providers",
        next_step=nearest(wanted, [*PROVIDERS, *sorted(known)]),
    )


def resolve(names: Sequence[str]) -> list[str]:
    """Return full provider names in the order given, each once.

    Arguments:
        names: Short names (`cpu`, `cuda`, `tensorrt`, …) or full `*ExecutionProvider` names.

    Raises:
        UsageError: No provider is called so; the nearest is named.
        MissingError: The installed ONNX Runtime has no such provider.
    """
    runtime = require("onnxruntime", extra="cpu")
    wanted = list(dict.fromkeys(full_name(name) for name in names))
    available = runtime.get_available_providers()
    for provider in wanted:
        if provider not in available:
            raise MissingError(
                f"the installed onnxruntime {runtime.__version__} has no {provider}",
                where="it has " + ", ".join(available),
                next_step=INSTALL_LINES.get(provider, f"install an onnxruntime with {provider}"),
            )
    return wanted


@cache
def trouble(provider: str, device: int = 0) -> str:
    """Return why a provider cannot run the smallest graph here; empty where it can.

    Arguments:
        provider: A full name that the installed ONNX Runtime has.
        device: Which of the GPUs.
    """
    from onnx import parser

    runtime = require("onnxruntime", extra="cpu")
    graph = parser.parse_model(SMALLEST).SerializeToString()
    try:
        open_session(graph, runtime.SessionOptions(), [provider], device=device)
    except MissingError as error:
        return f"{error.what}: {error.next_step}"
    return ""
