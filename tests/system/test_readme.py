"""The README is the documentation, and it is right: help, commands, code, names."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from toolkit.core.recipe import recipe_names
from toolkit.core.registry import commands

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
HELP = re.compile(r"<!-- help -->\n```\n(.*?)```\n<!-- /help -->", re.DOTALL)
BLOCKS = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)


def toolkit(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "toolkit", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={**os.environ, "COLUMNS": "100", "PYTHONPATH": str(ROOT), "NO_COLOR": "1"},
    )


def shell_lines() -> list[str]:
    return [
        line.partition("#")[0].strip()
        for language, text in BLOCKS.findall(README)
        if language == "bash"
        for line in text.splitlines()
        if line.strip()
    ]


def test_the_help_block_is_what_the_command_prints() -> None:
    printed = toolkit("--help").stdout.replace("python -m toolkit", "toolkit")
    shown = HELP.search(README)
    assert shown is not None
    assert shown[1].strip() == printed.strip(), printed


def test_every_command_in_a_block_exists() -> None:
    words = [re.search(r"toolkit (\w[\w-]*)", line) for line in shell_lines()]
    named = {word[1] for word in words if word and "install" not in word.string}
    assert named
    assert named <= {name.replace("_", "-") for name in commands.names()}


def test_every_make_target_in_a_block_exists() -> None:
    targets = {line.split()[1] for line in shell_lines() if line.startswith("make ")}
    makefile = (ROOT / "Makefile").read_text()
    assert {"demo", "test", "lint"} <= targets
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_is_described(name: str) -> None:
    assert f"`{name}`" in README


def test_every_script_that_is_named_exists() -> None:
    for path in re.findall(r"`(?:python )?((?:bench|toolkit|\.ci)/[\w/.]+)`", README):
        if "/x." not in path:
            assert (ROOT / path).exists(), path


def test_the_python_block_runs(tmp_path: Path) -> None:
    code = next(text for language, text in BLOCKS.findall(README) if language == "python")
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert "parity ok" in done.stdout


def test_the_users_own_model_goes_through_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "mypackage").mkdir()
    (tmp_path / "mypackage" / "__init__.py").write_text("")
    (tmp_path / "mypackage" / "models.py").write_text(
        "import torch\n"
        "class Flow(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.scale = torch.nn.Parameter(torch.ones(8))\n"
        "    def log_prob(self, x):\n"
        "        return -0.5 * ((x * self.scale) ** 2).sum(1) + self.scale.log().sum()\n"
        "def make_flow():\n"
        "    return Flow()\n"
    )
    export = next(line for line in shell_lines() if line.startswith("toolkit export"))
    arguments = [word.strip("'") for word in export.split()[1:]]
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    for words in (arguments, ["verify", "flow"]):
        done = subprocess.run(
            [sys.executable, "-m", "toolkit", *words],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env=environment,
        )
        assert done.returncode == 0, done.stderr + done.stdout
    assert (tmp_path / "flow" / "entries" / "log_prob" / "exported.onnx").exists()
