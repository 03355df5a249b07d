"""Every command: light help, common options, one JSON document, a documented exit code."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from toolkit.cli._answer import Answer
from toolkit.cli._app import build_app
from toolkit.core.registry import commands

NAMES = commands.names()
HEAVY = ("torch", "onnx", "onnx_ir", "onnxruntime", "numpy", "rich")
EXIT_CODES = range(8)
HELP = """
import sys
from toolkit.cli._app import build_app
try:
    build_app()(sys.argv[1:], prog_name="toolkit", standalone_mode=False)
except SystemExit:
    pass
print("heavy:", *[name for name in {heavy!r} if name in sys.modules], file=sys.stderr)
"""


def run_help(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", HELP.format(heavy=HEAVY), *arguments],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "120"},
    )


def useless_arguments(name: str) -> list[str]:
    """Return arguments that give every required parameter a value that names nothing."""
    group: Any = typer.main.get_command(build_app())
    words: list[str] = []
    for parameter in group.commands[name].params:
        if not parameter.required:
            continue
        if parameter.param_type_name == "option":
            words.append(parameter.opts[0])
        words.append("no-such-thing")
    return words


@pytest.mark.parametrize("name", NAMES)
def test_help_is_light(name):
    done = run_help(name, "--help")
    assert f"Usage: toolkit {name} " in done.stdout
    assert "--json" in done.stdout
    assert done.stderr.strip() == "heavy:"


def test_importing_the_command_line_loads_nothing_heavy():
    # Typer itself takes pydantic as soon as one command's options are read.
    code = (
        f"import sys, toolkit.cli; print([n for n in {(*HEAVY, 'pydantic')!r} if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_of_the_whole_lists_every_command():
    done = run_help("--help")
    assert done.stderr.strip() == "heavy:"
    for name in NAMES:
        assert f"  {name} " in done.stdout


@pytest.mark.parametrize("name", NAMES)
def test_command_is_documented_and_typed(name):
    function = commands.load(name)
    assert inspect.signature(function, eval_str=True).return_annotation is Answer
    assert commands.summary(name).endswith(".")
    assert inspect.getdoc(function)


@pytest.mark.parametrize("name", NAMES)
def test_json_is_one_document_on_standard_output(name):
    result = CliRunner().invoke(build_app(), [name, "--json", *useless_arguments(name)])
    document = json.loads(result.stdout)
    assert result.exit_code in EXIT_CODES
    if isinstance(document, dict) and "exit_code" in document:
        assert document["exit_code"] == result.exit_code
        assert {"what", "where", "next"} <= set(document)
        assert document["what"] in result.stderr


@pytest.mark.parametrize("name", NAMES)
def test_quiet_says_nothing_to_people_but_errors(name):
    result = CliRunner().invoke(build_app(), [name, "--quiet", *useless_arguments(name)])
    assert result.stdout == ""
    assert not result.stderr or result.stderr.startswith("error: ")
