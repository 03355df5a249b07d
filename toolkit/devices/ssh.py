"""A board over SSH: the bundle goes there, tests itself, and the result comes back."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.core.errors import MissingError, TimedOut, UsageError
from toolkit.devices._process import Ended, read_answer, run_capped
from toolkit.runtime.bundle import open_bundle
from toolkit.runtime.strict import shown

ADDRESS = re.compile(
    r"ssh://(?:(?P<user>[A-Za-z_][\w.-]*)@)?"
    r"(?P<host>[A-Za-z0-9_][\w.-]*|\[[0-9A-Fa-f:.]+\])"
    r"(?::(?P<port>\d{1,5}))?/?"
)
CONNECT = 15
COPY = 120
NO_ROOM, TIMED_OUT, NOT_EXECUTABLE, NOT_FOUND, UNREACHABLE = 125, (124, 137), 126, 127, 255
# One connection does it all: the bundle is the standard input. Killing the client would orphan
# the job, so `timeout` ends it there.
SCRIPT = (
    'folder=$(mktemp -d "${{TMPDIR:-/tmp}}/toolkit-XXXXXX") || exit {no_room}; '
    "trap 'rm -rf \"$folder\"' EXIT; trap 'exit 143' HUP INT TERM; "
    'cat > "$folder/bundle.zip" && cd "$folder" || exit {no_room}; '
    "timeout -k 5 {seconds} {python} -B -m zipfile -e bundle.zip bundle || exit $?; "
    "timeout -k 5 {seconds} {python} -B bundle/run.py selftest --json"
)


@dataclass(frozen=True, slots=True)
class Ssh:
    """Run bundles on a board; the system's `ssh`, its keys and its known hosts are used.

    Arguments:
        address: `ssh://user@host:port`; user and port may be left to the SSH configuration.
        python: The interpreter there; it needs numpy and onnxruntime.
        config: SSH configuration file instead of the user's.
    """

    address: str
    python: str = "python3"
    config: Path | None = None

    def command(self, script: str) -> list[str]:
        """Return the `ssh` call that runs a POSIX shell script there.

        Raises:
            UsageError: The address is not one.
        """
        match = ADDRESS.fullmatch(self.address)
        if match is None:
            raise UsageError(
                f"cannot read the address {shown(self.address)!r}",
                next_step="write it like ssh://user@host:22",
            )
        options = ["-T", "-o", "BatchMode=yes", "-o", f"ConnectTimeout={CONNECT}"]
        if self.config:
            options += ["-F", str(self.config)]
        if match["port"]:
            options += ["-p", match["port"]]
        if match["user"]:
            options += ["-l", match["user"]]
        return [
            "ssh",
            *options,
            "--",
            match["host"].strip("[]"),
            f"exec sh -c {shlex.quote(script)}",
        ]

    def selftest(self, bundle: Path, *, timeout: float = 300.0) -> Mapping[str, Any]:
        """Copy the bundle there, run its self-test and return the result.

        Arguments:
            bundle: The bundle's zip; it is checked here before it travels.
            timeout: Seconds the self-test may take there; the job is ended there, too.

        Raises:
            UsageError: The address is not one, or the bundle is not a zip.
            IntegrityError: The bundle is damaged.
            MissingError: The board cannot be reached, or lacks Python, a package or space.
            TimedOut: The limit passed.
            InconclusiveError: The board gave no readable answer.
        """
        if bundle.is_dir():
            raise UsageError(
                "a folder cannot be sent", where=str(bundle), next_step="give the bundle.zip"
            )
        script = SCRIPT.format(
            no_room=NO_ROOM, seconds=math.ceil(timeout), python=shlex.quote(self.python)
        )
        command = self.command(script)
        open_bundle(bundle).check()
        ended = run_capped(command, timeout=timeout + CONNECT + COPY, stdin=bundle)
        self._raise_for(ended, timeout)
        return read_answer(ended, self.address)

    def _raise_for(self, ended: Ended, timeout: float) -> None:
        if ended.code in TIMED_OUT:
            raise TimedOut(
                f"the self-test did not finish within {timeout:g} s",
                where=self.address,
                next_step="raise the time limit",
            )
        said = shown(ended.errors.decode(errors="replace").strip()[-400:], limit=400)
        reasons = {
            UNREACHABLE: ("the board cannot be reached", "try: ssh -v, and mind its host key"),
            NO_ROOM: ("the board has no room for the bundle", "free its temporary folder"),
            NOT_EXECUTABLE: ("the board's Python cannot be started", "name another interpreter"),
            NOT_FOUND: ("the board lacks Python or timeout", "install python3 and coreutils there"),
        }
        if ended.code in reasons and not ended.output:
            what, next_step = reasons[ended.code]
            raise MissingError(f"{what}: {said}", where=self.address, next_step=next_step)


device = Ssh
