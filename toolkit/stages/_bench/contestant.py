"""Contestants: what is timed, and the process that runs it, seen from the parent."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from toolkit.core.clock import Slot, WarmUp
from toolkit.core.errors import ExportError, TimedOut, ToolkitError
from toolkit.core.isolate import child_environment, death

OPEN_LIMIT = 300.0
TURN_LIMIT = 120.0
END_LIMIT = 10.0


@dataclass(frozen=True, slots=True)
class Contestant:
    """One variant on one backend with one set of inputs.

    Arguments:
        backend: Name in the registry, or `package.module:attribute`.
        variant: Name of the variant.
        path: Its file.
        signature: `Signature.as_dict()` of its entry.
        feeds: A safetensors file with every input.
        module: `{"target": "package.module:function", "arguments": {…}}` that returns the eager
            module, for backends that run it.
        threads: Threads within an operator.
        device: `cpu`, `cuda` or `cuda:0`.
        providers: ONNX Runtime providers in short names.
    """

    backend: str
    variant: str
    path: str
    signature: dict[str, Any]
    feeds: str
    module: dict[str, Any] | None = None
    threads: int = 1
    device: str = "cpu"
    providers: tuple[str, ...] = ("cpu",)


class Worker:
    """A contestant's process; use it as a context manager, so that it never outlives the block.

    Arguments:
        contestant: What it runs.
        scratch: A folder for its spec and its standard error.
        cores: Processor cores it stays on; empty for all.

    Raises:
        ToolkitError: From every method: the contestant failed, crashed or hung; it is killed.
    """

    def __init__(self, contestant: Contestant, scratch: Path, cores: Sequence[int] = ()) -> None:
        self.peak_memory_bytes = 0
        self._name = f"{contestant.backend} {contestant.variant}"
        spec = scratch / f"{time.perf_counter_ns()}.json"
        spec.write_text(json.dumps({**asdict(contestant), "cores": list(cores)}))
        self._log = spec.with_suffix(".log")
        self._buffer = bytearray()
        self._started = time.perf_counter_ns()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "toolkit.stages._bench.worker", str(spec)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
                start_new_session=True,
                env=_environment(contestant.threads, scratch),
            )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def opened(self) -> tuple[int, dict[str, Any]]:
        """Wait for the first result; return the nanoseconds since the start, and the settings."""
        reply = self._reply(OPEN_LIMIT)
        return time.perf_counter_ns() - self._started, reply["settings"]

    def warm_up(self, seconds: float) -> WarmUp:
        """Warm up until steady, for at most `seconds` and a call."""
        reply = self._ask("warm_up", seconds)
        return WarmUp(reply["calls"], reply["nanoseconds"], reply["steady"])

    def slot(self, seconds: float) -> Slot:
        """Take one turn of at least `seconds`."""
        reply = self._ask("slot", seconds)
        return Slot(tuple(reply["wall"]), tuple(reply["cpu"]))

    def close(self) -> None:
        """End the process and whatever it started."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def _ask(self, do: str, seconds: float) -> dict[str, Any]:
        stdin = self._process.stdin
        try:
            if stdin is not None:
                stdin.write(json.dumps({"do": do, "seconds": seconds}).encode() + b"\n")
        except BrokenPipeError as error:
            raise self._lost() from error
        return self._reply(TURN_LIMIT + seconds)

    def _reply(self, limit: float) -> dict[str, Any]:
        line = self._line(time.monotonic() + limit, limit)
        reply: dict[str, Any] = json.loads(line)
        self.peak_memory_bytes = reply["peak_memory_bytes"]
        if "error" in reply:
            raise ToolkitError.from_dict(reply["error"])
        return reply

    def _line(self, deadline: float, limit: float) -> bytes:
        stdout = self._process.stdout
        descriptor = stdout.fileno() if stdout is not None else -1
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                self.close()
                raise TimedOut(f"{self._name} did not answer within {limit:g} s")
            chunk = os.read(descriptor, 1 << 16)
            if not chunk:
                raise self._lost()
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        return bytes(line)

    def _lost(self) -> ExportError:
        try:
            code = self._process.wait(timeout=END_LIMIT)
        except subprocess.TimeoutExpired:
            self.close()
            code = self._process.returncode
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return ExportError(
            f"{self._name} ended without an answer ({death(code)}): "
            + (lines[-1] if lines else "silent"),
            where="\n".join(lines[-8:]),
        )


def _environment(threads: int, scratch: Path) -> dict[str, str]:
    """Return the child's environment: import path, pools of the asked size, cold cache, no TF32."""
    return child_environment(
        NVIDIA_TF32_OVERRIDE="0",
        OMP_NUM_THREADS=str(threads),
        TORCHINDUCTOR_COMPILE_THREADS="1",
        TORCHINDUCTOR_CACHE_DIR=str(scratch / "compiled"),
    )
