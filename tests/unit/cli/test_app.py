"""What the application makes of an error that a command did not foresee."""

from __future__ import annotations

import json

import typer
from typer.testing import CliRunner

from toolkit.cli._answer import Answer
from toolkit.cli._app import _with_common


def full_disk() -> Answer:
    raise OSError(28, "No space left on device", "run/report.html")


def test_a_file_error_has_three_parts_and_no_traceback() -> None:
    app = typer.Typer()
    app.command()(_with_common(full_disk))
    result = CliRunner().invoke(app, ["--json"])
    error = json.loads(result.stdout)
    assert (result.exit_code, error["exit_code"]) == (2, 2)
    assert "No space left" in error["what"]
    assert error["where"] == "run/report.html"
    assert error["next"]
    assert result.stderr.startswith("error: ")
