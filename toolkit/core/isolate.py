"""Child processes for what may crash, hang or leak: `python -m toolkit.core.isolate`."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

from toolkit.core.errors import ExportError, TimedOut, ToolkitError
from toolkit.core.files import write_text


def call(target: str, arguments: dict[str, Any], *, timeout: float, memory: int = 0) -> Any:
    """Call `package.module:function(**arguments)` in a fresh process; return its JSON-ready result.

    Arguments:
        target: The function.
        arguments: JSON-ready keyword arguments.
        timeout: Wall-clock limit in seconds.
        memory: Limit on the child's address space in bytes; 0 for none.

    Raises:
        TimedOut: The limit passed; the child and its children were killed.
        ToolkitError: The function raised one; its three parts and exit code are kept.
        ExportError: The child crashed; the signal and the end of its output are in the message.
    """
    with tempfile.TemporaryDirectory(prefix="toolkit-") as scratch:
        question, answer = Path(scratch, "question.json"), Path(scratch, "answer.json")
        question.write_text(
            json.dumps({"target": target, "arguments": arguments, "memory": memory})
        )
        process = subprocess.Popen(
            [sys.executable, "-m", "toolkit.core.isolate", str(question), str(answer)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            env=child_environment(),
        )
        with process:
            try:
                output, _ = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired as error:
                raise TimedOut(
                    f"{target} did not finish within {timeout:g} s",
                    next_step="raise the time limit",
                ) from error
            finally:
                _kill_group(process)
        if not answer.exists():
            raise ExportError(
                f"{target} ended without an answer: {death(process.returncode)}",
                where=output[-2000:].strip(),
            )
        result = json.loads(answer.read_text())
    if "error" in result:
        raise ToolkitError.from_dict(result["error"])
    return result["value"]


def _kill_group(process: subprocess.Popen[str]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


def child_environment(**variables: str) -> dict[str, str]:
    """Return this process's environment, its import path and further variables for a child."""
    path = os.pathsep.join(path for path in sys.path if path)
    return {**os.environ, "PYTHONPATH": path, **variables}


def death(code: int | None) -> str:
    """Say how a process ended."""
    return f"killed by {signal.Signals(-code).name}" if code and code < 0 else f"exit code {code}"


def _answer(question: dict[str, Any]) -> dict[str, Any]:
    from toolkit.core.registry import load_attribute

    if question["memory"]:
        resource.setrlimit(resource.RLIMIT_AS, (question["memory"], question["memory"]))
    try:
        return {"value": load_attribute(question["target"])(**question["arguments"])}
    except ToolkitError as error:
        return {"error": error.as_dict()}
    except Exception as error:  # noqa: BLE001  (the parent decides; a child must answer)
        trace = traceback.format_exc(limit=-3)
        failed = ExportError(f"{type(error).__name__}: {error}", where=trace)
        return {"error": failed.as_dict()}


def main() -> None:
    """Read the question file, call the function, write the answer file."""
    question, answer = map(Path, sys.argv[1:3])
    write_text(answer, json.dumps(_answer(json.loads(question.read_text()))))


if __name__ == "__main__":
    main()
