"""The torch module through `torch.compile`, one compiled graph per batch size."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.backends._torch import TorchRunner, absent_reason
from toolkit.core.protocols import Artifact

if TYPE_CHECKING:
    from torch import nn


class CompileRunner(TorchRunner):
    """A compiled module; the first call compiles."""

    def close(self) -> None:
        """Release the compiled graphs too."""
        import torch

        super().close()
        torch.compiler.reset()


class Compile:
    """Run the module through `torch.compile(dynamic=False)`; compiling counts as cold start."""

    formats = ("module",)

    def absent(self, *, device: str = "cpu", providers: Sequence[str] = ("cpu",)) -> str:  # noqa: ARG002
        """Return why it cannot run here, a missing C++ compiler for example; empty where it can."""
        return absent_reason(device) or _no_compiler()

    def open(
        self,
        artifact: Artifact,
        *,
        threads: int = 1,
        device: str = "cpu",
        providers: Sequence[str] = ("cpu",),  # noqa: ARG002
    ) -> CompileRunner:
        """Wrap the module; nothing is compiled before the first call.

        Raises:
            UsageError: The artifact has no module.
        """
        return CompileRunner(artifact, threads=threads, device=device, wrap=_compiled)


def _compiled(module: nn.Module) -> Callable[..., Any]:
    import torch

    return torch.compile(module, dynamic=False)


def _no_compiler() -> str:
    """Return what torch's code generator lacks on this machine."""
    program = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(program) is None:
        return f"torch.compile needs the C++ compiler {program!r}: apt install g++"
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        return "torch.compile needs Python's C headers: apt install python3-dev"
    return ""


backend = Compile()
