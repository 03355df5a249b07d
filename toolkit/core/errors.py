"""Errors that say what went wrong, where, and what to do next; each carries its exit code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ToolkitError(Exception):
    """Raise with three parts: what happened, where it happened, and what the user does next.

    Arguments:
        what: One sentence on what went wrong.
        where: A file, recipe key, node or module path; empty where there is none.
        next_step: The command to run or the thing to change; empty where there is none.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", next_step: str = "") -> None:
        self.what, self.where, self.next_step = what, where, next_step
        super().__init__(what)

    def __str__(self) -> str:
        lines = [self.what]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.next_step:
            lines.append(f"  next:  {self.next_step}")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, str | int]:
        """Return the three parts, the class name and the exit code, for `--json`."""
        return {
            "error": type(self).__name__,
            "what": self.what,
            "where": self.where,
            "next": self.next_step,
            "exit_code": self.exit_code,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ToolkitError:
        """Return an error of the three parts and exit code that `as_dict` wrote."""
        error = cls(data["what"], where=data["where"], next_step=data["next"])
        error.exit_code = data["exit_code"]
        return error


class CheckFailed(ToolkitError):
    """A check ran and its finding is a failure."""

    exit_code = 1


class UsageError(ToolkitError):
    """The command line, the recipe or a path is wrong."""

    exit_code = 2


class ExportError(ToolkitError):
    """An export, rewrite, conversion or engine build failed."""

    exit_code = 3


class MissingError(ToolkitError):
    """A package, provider, program or device is absent."""

    exit_code = 4


class InconclusiveError(ToolkitError):
    """The measurement does not decide: noise band, throttling or too few samples."""

    exit_code = 5


class IntegrityError(ToolkitError):
    """A file is damaged, altered, hostile or of an incompatible version."""

    exit_code = 6


class TimedOut(ToolkitError):
    """The work did not finish within its time limit."""

    exit_code = 7


INTERRUPTED = 130
