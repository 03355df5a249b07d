"""Child processes: results, errors and ends come back in words."""

from __future__ import annotations

import os
import shutil
import signal
import time

import pytest

from toolkit.core import isolate
from toolkit.core.errors import ExportError, TimedOut, ToolkitError, UsageError


def answered(value: int) -> dict[str, int]:
    return {"value": value, "pid": os.getpid()}


def refused() -> None:
    raise UsageError("what", where="where", next_step="next")


def broken() -> None:
    raise ValueError("a mistake")


def killed() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def endless() -> None:
    time.sleep(60)


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    shutil.copyfile(__file__, tmp_path / "isolated_functions.py")
    monkeypatch.syspath_prepend(tmp_path)


def call(name: str, *, timeout: float = 30.0, **arguments: int) -> object:
    return isolate.call(f"isolated_functions:{name}", arguments, timeout=timeout)


def test_the_result_comes_from_another_process() -> None:
    found = call("answered", value=3)
    assert found["value"] == 3
    assert found["pid"] != os.getpid()


def test_an_error_keeps_its_three_parts_and_its_code() -> None:
    with pytest.raises(ToolkitError) as raised:
        call("refused")
    error = raised.value
    assert (error.what, error.where, error.next_step) == ("what", "where", "next")
    assert error.exit_code == UsageError.exit_code


def test_any_other_exception_is_named() -> None:
    with pytest.raises(ToolkitError, match="ValueError: a mistake"):
        call("broken")


def test_a_crash_names_the_signal() -> None:
    with pytest.raises(ExportError, match="SIGSEGV"):
        call("killed")


def test_a_child_that_does_not_end_is_ended() -> None:
    start = time.monotonic()
    with pytest.raises(TimedOut):
        call("endless", timeout=1.0)
    assert time.monotonic() - start < 30
