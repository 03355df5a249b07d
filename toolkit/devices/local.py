"""This machine: the bundle, unpacked, tests itself in a process of its own."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from toolkit.core.errors import TimedOut
from toolkit.devices._process import read_answer, run_capped
from toolkit.runtime.bundle import open_bundle


@dataclass(frozen=True, slots=True)
class Local:
    """Run bundles here, with their own code, as a board would.

    Arguments:
        address: Not used; every device is made from an address.
        python: The interpreter; it needs numpy and onnxruntime.
    """

    address: str = "local"
    python: str = sys.executable

    def selftest(self, bundle: Path, *, timeout: float = 300.0) -> Mapping[str, Any]:
        """Unpack the bundle, run its self-test and return the result.

        Arguments:
            bundle: The bundle, zip or folder; it is checked before its code runs.
            timeout: Seconds the self-test may take.

        Raises:
            IntegrityError: The bundle is damaged.
            TimedOut: The limit passed.
            InconclusiveError: The self-test gave no readable answer.
        """
        opened = open_bundle(bundle)
        with TemporaryDirectory(prefix="toolkit-") as scratch:
            opened.unpack(Path(scratch))
            run = str(Path(scratch, "run.py"))
            command = [self.python, "-I", "-B", run, "selftest", "--json"]
            try:
                ended = run_capped(command, timeout=timeout)
            except TimedOut as error:
                raise TimedOut(
                    f"the self-test did not finish within {timeout:g} s",
                    where=self.address,
                    next_step="raise the time limit",
                ) from error
        return read_answer(ended, self.address)


device = Local
