"""The torch module itself, operator by operator."""

from __future__ import annotations

from collections.abc import Sequence

from toolkit.backends._torch import TorchRunner, absent_reason
from toolkit.core.protocols import Artifact


class Eager:
    """Run the module under `torch.inference_mode`."""

    formats = ("module",)

    def absent(self, *, device: str = "cpu", providers: Sequence[str] = ("cpu",)) -> str:  # noqa: ARG002
        """Return why it cannot run here; empty where it can."""
        return absent_reason(device)

    def open(
        self,
        artifact: Artifact,
        *,
        threads: int = 1,
        device: str = "cpu",
        providers: Sequence[str] = ("cpu",),  # noqa: ARG002
    ) -> TorchRunner:
        """Make the module and place it.

        Raises:
            UsageError: The artifact has no module.
        """
        return TorchRunner(artifact, threads=threads, device=device, wrap=lambda module: module)


backend = Eager()
