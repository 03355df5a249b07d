"""Which device a run's work is done on."""

from __future__ import annotations

import re
from collections.abc import Sequence

from toolkit.core.errors import UsageError

_DEVICE = re.compile(r"cpu|auto|cuda(:\d+)?")
# How the names of ONNX Runtime's providers for CUDA devices begin, the short and the full ones.
_ON_CUDA = ("cuda", "tensorrt", "nvtensorrt")


def resolve(device: str, providers: Sequence[str]) -> str:
    """Return the device of a run: `cpu`, `cuda` or `cuda:0`.

    Arguments:
        device: One of these, or `auto`: CUDA where torch sees a device, else the processor.
        providers: ONNX Runtime providers; one for CUDA puts the whole run there, so that what it
            is judged and timed against runs on the same device.

    Raises:
        UsageError: No device is called so.
    """
    if not _DEVICE.fullmatch(device):
        raise UsageError(
            f"there is no device {device!r}", where="device", next_step="cpu, cuda, cuda:0 or auto"
        )
    if any(name.lower().startswith(_ON_CUDA) for name in providers):
        return device if device.startswith("cuda") else "cuda"
    return _present() if device == "auto" else device


def _present() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
