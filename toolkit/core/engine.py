"""Engines: what to build, and the contract of a backend that builds them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class EngineJob:
    """One engine to build.

    Arguments:
        onnx_path: The graph.
        engine_path: The engine to write.
        target: Compute capability such as `8.6`.
        precision: The graph's precision.
        profiles: Per dynamic dimension: minimum, typical, maximum.
    """

    onnx_path: str
    engine_path: str
    target: str
    precision: str
    profiles: dict[str, tuple[int, int, int]] = field(default_factory=dict)


BuildProgress = Callable[[EngineJob, dict[str, Any]], None]


@runtime_checkable
class EngineBuilder(Protocol):
    """A backend that also builds the engines it runs."""

    def cannot_build(self) -> str:
        """Return why engines cannot be built here, with the install line; empty where they can."""

    def build(
        self, jobs: Sequence[EngineJob], *, timeout: float, progress: BuildProgress | None = None
    ) -> list[dict[str, Any]]:
        """Build engines and return one result per job.

        A result holds `status`, `reason`, `refused` (operator, node, module), `sha256`, `bytes`
        and `seconds`. `timeout` is per build, in seconds.
        """
