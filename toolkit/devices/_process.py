"""Run a program that may never end or never stop printing, and read its answer."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from toolkit.core.errors import InconclusiveError, MissingError, TimedOut, ToolkitError
from toolkit.runtime.strict import parse_json, shown

CAP = 1 << 20
STATUSES = ("ok", "failed", "skipped")


@dataclass(frozen=True, slots=True)
class Ended:
    """A program's exit code and what it printed."""

    code: int
    output: bytes
    errors: bytes


def run_capped(
    command: Sequence[str], *, timeout: float, stdin: Path | None = None, cap: int = CAP
) -> Ended:
    """Run a program in a process group of its own; nothing of it outlives this call.

    Arguments:
        command: Program and arguments.
        timeout: Wall-clock limit in seconds.
        stdin: File to feed it.
        cap: Most bytes it may print on either stream.

    Raises:
        MissingError: There is no such program.
        TimedOut: The limit passed.
        InconclusiveError: It printed more than `cap` bytes.
    """
    with Path(os.devnull if stdin is None else stdin).open("rb") as source:
        try:
            process = subprocess.Popen(
                list(command),
                stdin=source,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise MissingError(
                f"cannot start {command[0]}: {error.strerror}", next_step=f"install {command[0]}"
            ) from error
    with process:
        try:
            output, errors = _read(process, time.monotonic() + timeout, cap)
            code = process.wait(timeout=5)
        except subprocess.TimeoutExpired as error:
            raise TimedOut(
                f"{command[0]} did not finish within {timeout:g} s",
                next_step="raise the time limit",
            ) from error
        finally:
            _kill_group(process)
    return Ended(code, output, errors)


def _read(process: subprocess.Popen[bytes], deadline: float, cap: int) -> tuple[bytes, bytes]:
    held: dict[str, bytearray] = {"out": bytearray(), "err": bytearray()}
    with selectors.DefaultSelector() as selector:
        for stream, key in ((process.stdout, "out"), (process.stderr, "err")):
            if stream is not None:
                selector.register(stream, selectors.EVENT_READ, key)
        while selector.get_map():
            remaining = deadline - time.monotonic()
            ready = selector.select(remaining) if remaining > 0 else []
            if not ready:
                raise subprocess.TimeoutExpired(process.args, 0)
            for event, _ in ready:
                _take(event.fileobj, held[event.data], selector, cap)
    return bytes(held["out"]), bytes(held["err"])


def _take(stream: IO[bytes] | Any, held: bytearray, selector: Any, cap: int) -> None:
    piece = os.read(stream.fileno(), 1 << 16)
    if not piece:
        selector.unregister(stream)
    held += piece
    if len(held) > cap:
        raise InconclusiveError(
            f"the device printed more than {cap} bytes", next_step="run the self-test there by hand"
        )


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def read_answer(ended: Ended, where: str) -> Mapping[str, Any]:
    """Read the self-test's document.

    Arguments:
        ended: How the self-test ended; exit codes 0 and 1 have a document with results.
        where: Name of the device, for messages.

    Returns:
        `status`, `results`, `seconds`, `machine`, `exit_code` and `device`.

    Raises:
        ToolkitError: The self-test refused the bundle; its three parts and exit code are kept.
        InconclusiveError: The answer is not one.
    """
    try:
        document = parse_json(ended.output, where=where)
    except ToolkitError as error:
        raise _unreadable(ended, where) from error
    if {"error", "what", "where", "next"} <= set(document):
        rebuilt = ToolkitError(
            shown(document["what"], limit=400),
            where=f"{where}: {shown(document['where'], limit=200)}",
            next_step=shown(document["next"], limit=200),
        )
        rebuilt.exit_code = ended.code or ToolkitError.exit_code
        raise rebuilt
    if not _well_formed(document) or ended.code != (document["status"] == "failed"):
        raise _unreadable(ended, where)
    return {**document, "exit_code": ended.code, "device": where}


def _well_formed(document: Mapping[str, Any]) -> bool:
    results = document.get("results")
    return (
        document.get("status") in STATUSES
        and isinstance(results, list)
        and bool(results)
        and all(isinstance(item, dict) and item.get("status") in STATUSES for item in results)
    )


def _unreadable(ended: Ended, where: str) -> InconclusiveError:
    tail = ended.errors.decode(errors="replace")[-400:]
    return InconclusiveError(
        f"the device gave no readable answer (exit code {ended.code})",
        where=f"{where}: {shown(tail, limit=400)}",
        next_step="unpack the bundle there and run: python run.py selftest",
    )
