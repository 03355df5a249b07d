"""What the backends that run the torch module itself share."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from toolkit.core.errors import UsageError
from toolkit.core.protocols import Artifact
from toolkit.core.require import installed

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import nn

    Arrays = dict[str, np.ndarray]
    Wrap = Callable[[nn.Module], Callable[..., Any]]


class TorchRunner:
    """A module on its device; torch's thread count is set until `close`.

    Arguments:
        artifact: Whose module runs.
        threads: Threads within an operator.
        device: `cpu`, `cuda` or `cuda:0`.
        wrap: Makes the callable from the module, `torch.compile` for example.
    """

    def __init__(self, artifact: Artifact, *, threads: int, device: str, wrap: Wrap) -> None:
        import torch

        if artifact.module is None:
            raise UsageError(
                "there is no model to run, only files",
                where=str(artifact.path),
                next_step="give the model, or choose another backend",
            )
        self.settings = {"threads": threads, "device": device, "precision": "float32"}
        self._inputs = [item.name for item in artifact.signature.inputs]
        self._outputs = [item.name for item in artifact.signature.outputs]
        self._device = torch.device(device)
        if self._device.type == "cuda":
            torch.backends.cudnn.allow_tf32 = False
            torch.backends.cuda.matmul.allow_tf32 = False
        self._call: Any = wrap(_placed(artifact.module(), self._device))
        self._threads = torch.get_num_threads()
        torch.set_num_threads(threads)

    def __call__(self, feeds: Arrays) -> Arrays:
        """Run once and return every output by name."""
        import torch

        tensors = self._tensors(feeds)
        with torch.inference_mode():
            result = self._call(*tensors)
        values = result if isinstance(result, tuple | list) else (result,)
        return {
            name: value.cpu().numpy() for name, value in zip(self._outputs, values, strict=True)
        }

    def prepare(self, feeds: Arrays) -> Callable[[], object]:
        """Place the inputs; on a CUDA device the call ends when the device has finished."""
        import torch

        call, tensors, device = self._call, self._tensors(feeds), self._device

        def run() -> object:
            with torch.inference_mode():
                return call(*tensors)

        def run_and_wait() -> object:
            result = run()
            torch.cuda.synchronize(device)
            return result

        return run if device.type == "cpu" else run_and_wait

    def close(self) -> None:
        """Release the module and put the thread count back."""
        import torch

        self._call = None
        torch.set_num_threads(self._threads)

    def _tensors(self, feeds: Arrays) -> list[torch.Tensor]:
        import torch

        return [torch.tensor(feeds[name], device=self._device) for name in self._inputs]


def absent_reason(device: str) -> str:
    """Return why torch cannot run on this device; empty where it can."""
    if not installed("torch"):
        return "torch is not installed: pip install torch"
    if not device.startswith("cuda"):
        return ""
    import torch

    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        absent = int(device.partition(":")[2] or 0) >= count
        return f"there is no {device} here: torch sees {count} CUDA devices" if absent else ""
    return (
        f"torch {torch.__version__} sees no CUDA device: "
        "pip install torch built for CUDA, on a machine with a driver (toolkit doctor)"
    )


def _placed(module: nn.Module, device: torch.device) -> nn.Module:
    """Return the module on the device; the caller's own module stays where it is."""
    tensors: Sequence[torch.Tensor] = [*module.parameters(), *module.buffers()]
    places = {tensor.device for tensor in tensors}
    if all(here.type == device.type and device.index in (None, here.index) for here in places):
        return module
    return copy.deepcopy(module).to(device)
