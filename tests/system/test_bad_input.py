"""Bad input: one clear message, the documented exit code, nothing half-written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from toolkit.cli._app import build_app

MODELS = """
import os
import time
from pathlib import Path

import torch
from torch import nn

from toolkit.core.entry import Entry, Input


class Tiny(nn.Module):
    family = "tiny"

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        return self.layer(x)

    def unsupported(self, x):
        return torch.special.airy_ai(self.layer(x))

    def raises(self, x):
        raise ValueError("a fault of the model's own")

    def slow(self, x):
        if marker := os.environ.get("STOP_HERE"):
            Path(marker).touch()
            time.sleep(60)
        return torch.relu(self.layer(x))


class Slow(Tiny):
    def entries(self):
        x = Input("x", torch.ones(3, 4), dims=("batch", None))
        return [Entry(name, call=name, inputs=[x]) for name in ("forward", "slow")]
"""
INPUT = ("--input", "x:float32[batch,4]")


@pytest.fixture
def models(tmp_path, monkeypatch) -> str:
    """A module of its own name per test, importable here and in child processes."""
    name = f"models_of_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(MODELS)
    monkeypatch.syspath_prepend(tmp_path)
    return name


def toolkit(*words: object) -> tuple[int, dict[str, str], str]:
    """Run a command; return its exit code, the error as JSON and what people read."""
    result = CliRunner().invoke(build_app(), [*map(str, words), "--json"])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, json.loads(result.stdout), result.stderr


def leftovers(folder: Path) -> list[Path]:
    """Return temporary files: what is written beside its place begins with a dot."""
    return [path for path in folder.rglob(".*") if path.is_file() and path.name != ".lock"]


def test_typo_in_a_recipe_names_the_nearest_key(tmp_path):
    recipe = tmp_path / "typo.toml"
    recipe.write_text('[model]\nname = "resnet"\n[train]\nepoch = 3\n')
    code, error, text = toolkit("run", recipe, "-o", tmp_path / "run")
    assert code == 2
    assert error["what"] == "unknown key 'train.epoch'"
    assert error["where"] == str(recipe)
    assert error["next"] == "did you mean 'epochs'?"
    assert text.count("error: ") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("run", "nowhere.toml"),
        ("inspect", "nowhere.onnx"),
        ("selftest", "nowhere.zip"),
        ("report", "nowhere"),
        ("export", "resnet", "--weights", "nowhere.safetensors"),
    ],
)
def test_missing_file(tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    code, error, _ = toolkit(*words)
    assert code == 2
    assert "nowhere" in error["what"] + error["where"]
    assert error["next"]


def test_entry_that_fails(tmp_path, models):
    code, outcome, text = toolkit(
        "export", f"{models}:Tiny", "--entry", "raises", *INPUT, "-o", tmp_path / "run"
    )
    assert code == 3
    assert "a fault of the model's own" in outcome["reason"]
    assert "Traceback" not in text
    assert not list(tmp_path.rglob("*.onnx"))
    assert not leftovers(tmp_path)


def test_unsupported_operator_is_named_and_others_are_exported(tmp_path, models):
    run = tmp_path / "run"
    code, outcome, _ = toolkit(
        "export",
        f"{models}:Tiny",
        "--entry",
        "forward",
        "--entry",
        "unsupported",
        *INPUT,
        "-o",
        run,
    )
    assert code == 3
    assert "airy_ai" in outcome["reason"]
    assert "toolkit doctor --model" in outcome["reason"]
    assert [path.parent.name for path in run.rglob("*.onnx")] == ["forward"]
    assert not leftovers(run)


def test_unwritable_folder(tmp_path, models):
    blocked = tmp_path / "file"
    blocked.write_text("a file, not a folder")
    code, error, _ = toolkit("export", f"{models}:Tiny", *INPUT, "-o", blocked / "run")
    assert code == 2
    assert "cannot write" in error["what"]
    assert str(blocked) in error["where"]
    assert "-o" in error["next"]
    assert blocked.read_text() == "a file, not a folder"


def test_truncated_onnx(tmp_path):
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 64]) for name in "xy"]
    weight = numpy_helper.from_array(np.ones((64, 64), np.float32), "w")
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "g", value[:1], value[1:], [weight])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    whole, cut = tmp_path / "whole.onnx", tmp_path / "cut.onnx"
    onnx.save(made, whole)
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert toolkit("inspect", whole)[0] == 0
    code, error, text = toolkit("inspect", cut)
    assert code == 6
    assert error["where"] == str(cut)
    assert text.count("error: ") == 1


@pytest.mark.parametrize("command", ["selftest", "deploy"])
def test_bundle_with_one_flipped_byte(tmp_path, bundle_zip, command):
    with zipfile.ZipFile(bundle_zip) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    name = next(name for name in contents if name.endswith("fp32.onnx"))
    content = bytearray(contents[name])
    content[len(content) // 2] ^= 1
    contents[name] = bytes(content)
    altered = tmp_path / "altered.zip"
    with zipfile.ZipFile(altered, "w") as archive:
        for member, data in contents.items():
            archive.writestr(member, data)
    extra = ("--device", "local") if command == "deploy" else ()
    code, error, _ = toolkit(command, altered, *extra)
    assert code == 6
    assert name in error["what"]


def test_interrupt_leaves_nothing_half_written_and_the_next_run_goes_on(tmp_path, models):
    run, marker = tmp_path / "run", tmp_path / "marker"
    command = [
        *(sys.executable, "-m", "toolkit", "run", f"{models}:Slow"),
        *("--until", "export", "--set", "verify.samples=16", "-o", str(run)),
    ]
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    environment = {**os.environ, "PYTHONPATH": path}
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**environment, "STOP_HERE": str(marker)},
    )
    try:
        deadline = time.monotonic() + 120
        while not marker.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, said
    assert said.strip().splitlines()[-1].startswith("interrupted")
    assert "Traceback" not in said
    assert not leftovers(run)
    assert not (run / "entries" / "slow").exists()
    onnx.checker.check_model(run / "entries" / "forward" / "exported.onnx")
    stages = json.loads((run / "manifest.json").read_text())["stages"]
    assert list(stages) == ["train"]
    again = subprocess.run(
        [*command, "--json"],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=120,
    )
    assert again.returncode == 0, again.stderr
    train, export = json.loads(again.stdout)["stages"]
    assert (train["unchanged"], export["unchanged"]) == (True, False)
    assert (run / "entries" / "slow" / "exported.onnx").is_file()


SLOW_CALL = """
import time, torch

class Slow(torch.nn.Module):
    def forward(self, x):
        for _ in range(500):
            time.sleep(0.02)
        return x
"""


def test_an_entry_that_takes_too_long_exits_7_and_names_the_line(tmp_path):
    (tmp_path / "slow_call.py").write_text(SLOW_CALL)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "toolkit", "export", "slow_call:Slow"),
            *("--input", "x:float32[batch,4]", "--timeout", "0.5", "-o", "run"),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 7, done.stderr
    assert "took longer than 0.5 s" in done.stdout
    assert "slow_call.py:7" in done.stdout
    assert not list((tmp_path / "run").rglob("*.onnx"))
