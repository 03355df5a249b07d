"""What a command returns: data for machines, text for people, and an exit code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Answer:
    """A command's result.

    Arguments:
        data: JSON-ready value for `--json`.
        text: Makes the text for people; called only when it is shown.
        code: Exit code.
    """

    data: Any
    text: Callable[[], str]
    code: int = 0


def table(headers: Sequence[str], rows: Sequence[Sequence[Any]], *, title: str = "") -> str:
    """Return a table as text, in colour on a terminal unless `NO_COLOR` is set."""
    import io

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(title=title or None, title_justify="left", box=None, pad_edge=False)
    for header in headers:
        grid.add_column(header, overflow="fold")
    for row in rows:
        grid.add_row(*(Text(cell(value), style=_style(value)) for value in row))
    console = Console(file=io.StringIO(), width=_width(), force_terminal=_colour())
    console.print(grid)
    stream = console.file
    return stream.getvalue().rstrip() if isinstance(stream, io.StringIO) else ""


def cell(value: Any) -> str:
    """Return one value as people read it; control characters of foreign names are escaped."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.3g}"
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(value))


def _style(value: Any) -> str:
    return {"ok": "green", "failed": "bold red", "skipped": "yellow"}.get(str(value), "")


def _width() -> int:
    import shutil

    return max(shutil.get_terminal_size((140, 24)).columns, 80)


def _colour() -> bool:
    import os
    import sys

    return sys.stdout.isatty() and "NO_COLOR" not in os.environ
