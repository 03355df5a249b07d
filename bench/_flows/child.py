"""Fresh processes with a time limit, forked from one that has torch and its exporter ready."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import resource
import signal
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from toolkit.core.errors import ExportError, TimedOut, ToolkitError
from toolkit.core.files import write_json
from toolkit.core.isolate import child_environment, death

# A process that waits, or shares its core with others, may take this many times its limit.
PATIENCE = 6.0

_CONTEXT = multiprocessing.get_context("forkserver")


def prepare() -> None:
    """Set the environment that every child has: one thread, and this process's import path."""
    os.environ.update(child_environment(OMP_NUM_THREADS="1"))
    _CONTEXT.set_forkserver_preload(["_flows.warm"])


def call(function: Callable[..., Any], *arguments: Any, limit: float) -> Any:
    """Call a module's function in a process of its own; return its JSON-ready result.

    Arguments:
        function: What is called; it is found by its name.
        arguments: Its arguments.
        limit: Seconds of CPU, so that a busy machine fails nobody; after six times as many by
            wall clock the process and its children are killed as well.

    Raises:
        TimedOut: The limit passed.
        ExportError: The function raised, or the process died; the end of its output says how.
    """
    with tempfile.TemporaryDirectory(prefix="toolkit-") as scratch:
        process = _CONTEXT.Process(target=_answer, args=(function, arguments, scratch, limit))
        process.start()
        process.join(PATIENCE * limit)
        late = process.is_alive()
        if late:
            _kill(process.pid or 0)
            process.join()
        answer = Path(scratch, "answer.json")
        if (late or process.exitcode == -signal.SIGXCPU) and not answer.exists():
            told = f"{PATIENCE * limit:g} s" if late else f"{limit:g} s of CPU"
            raise TimedOut(f"did not finish within {told}")
        if not answer.exists():
            log = Path(scratch, "log").read_text(errors="replace").strip()[-500:]
            raise ExportError(f"no answer ({death(process.exitcode)}): {log}")
        result = json.loads(answer.read_text())
    if "error" in result:
        raise ExportError(result["error"])
    return result["value"]


def first_line(error: BaseException) -> str:
    """Return an error's class and the first line of its message."""
    if isinstance(error, ToolkitError):
        return " ".join(part for part in (error.what, error.where and f"({error.where})") if part)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return ": ".join([type(error).__name__, *lines[:1]])


def _answer(
    function: Callable[..., Any], arguments: tuple[Any, ...], scratch: str, limit: float
) -> None:
    os.setsid()
    threading.Thread(target=_die_with_parent, daemon=True).start()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    seconds = math.ceil(limit)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
    log = os.open(Path(scratch, "log"), os.O_WRONLY | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(log, stream)
    try:
        result = {"value": function(*arguments)}
    except Exception as error:  # noqa: BLE001  (the parent decides; a child must answer)
        result = {"error": first_line(error)}
    write_json(Path(scratch, "answer.json"), result)


def _kill(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return


def _die_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
        os.killpg(0, signal.SIGKILL)
