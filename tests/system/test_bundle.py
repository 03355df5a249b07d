"""A bundle where nothing but numpy and onnxruntime is installed."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import pytest

# What onnxruntime itself imports or requires.
DISTRIBUTIONS = ("numpy", "onnxruntime", "flatbuffers", "packaging", "protobuf")


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh virtual environment that sees only those distributions."""
    root = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", root], check=True)
    (site,) = root.glob("lib/python*/site-packages")
    for name in DISTRIBUTIONS:
        found = distribution(name)
        tops = {Path(file).parts[0] for file in found.files or () if ".." not in Path(file).parts}
        for top in tops - {"__pycache__"}:
            source = Path(str(found.locate_file(top)))
            if source.exists() and not (site / top).exists():
                (site / top).symlink_to(source)
    return root / "bin" / "python"


def run(python: Path, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return subprocess.run(
        [python, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    "module", ["torch", "toolkit", "onnx", "pydantic", "safetensors", "scipy", "typer"]
)
def test_the_bare_environment_is_bare(module: str, bare_python: Path, tmp_path: Path) -> None:
    done = run(bare_python, "-c", f"import {module}", cwd=tmp_path)
    assert "ModuleNotFoundError" in done.stderr


def test_selftest_passes_and_leaves_nothing(bare_python: Path, unpacked: Path) -> None:
    before = sorted(unpacked.rglob("*"))
    for _ in range(2):
        done = run(bare_python, "run.py", "selftest", "--json", cwd=unpacked)
        assert done.returncode == 0, done.stderr
        document = json.loads(done.stdout)
        assert document["status"] == "ok"
        assert sum(item["check"] == "golden" for item in document["results"]) == 3
    assert sorted(unpacked.rglob("*")) == before


def test_selftest_in_text_from_another_folder(
    bare_python: Path, unpacked: Path, tmp_path: Path
) -> None:
    done = run(bare_python, unpacked / "run.py", "selftest", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("passed\n")
    assert "ok golden log_prob fp32" in done.stdout


def test_an_entry_runs_on_arrays(bare_python: Path, unpacked: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", x=np.ones((2, 4), np.float32))
    done = run(
        bare_python, unpacked / "run.py", "run", "log_prob", "in.npz", "-o", "y.npz", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "y.npz") as outputs:
        assert np.isfinite(outputs["log_prob"]).all()


@pytest.mark.parametrize(
    "name",
    [
        "manifest.json",
        "entries/log_prob/fp32.onnx",
        "entries/log_prob/golden.safetensors",
        "toolkit/runtime/limits.py",
    ],
)
def test_one_flipped_byte_exits_six_and_names_the_file(
    name: str, bare_python: Path, unpacked: Path
) -> None:
    data = bytearray((unpacked / name).read_bytes())
    # In the code this is a syntax error: it must be found before it is imported.
    data[-1] ^= 1
    (unpacked / name).write_bytes(data)
    done = run(bare_python, "run.py", "selftest", "--json", cwd=unpacked)
    assert done.returncode == 6, done.stderr
    assert name in done.stderr
    assert json.loads(done.stdout)["exit_code"] == 6
    assert "Traceback" not in done.stderr


def test_memory_is_limited_when_asked(bare_python: Path, unpacked: Path) -> None:
    assert run(bare_python, "run.py", "selftest", "--memory", "8192", cwd=unpacked).returncode == 0


def test_without_packages_it_says_what_to_install(unpacked: Path, tmp_path: Path) -> None:
    done = run(Path(sys.executable), "-I", "-S", unpacked / "run.py", "selftest", cwd=tmp_path)
    assert done.returncode == 4
    assert "pip install numpy onnxruntime" in done.stderr


def test_the_runner_needs_nothing_newer_than_python_3_10(bundle_zip: Path) -> None:
    with zipfile.ZipFile(bundle_zip) as archive:
        sources = {name: archive.read(name) for name in archive.namelist() if name.endswith(".py")}
    assert len(sources) > 10
    for name, source in sources.items():
        ast.parse(source, name, feature_version=(3, 10))


def test_the_runtime_imports_only_what_a_bundle_carries(bundle_zip: Path) -> None:
    with zipfile.ZipFile(bundle_zip) as archive:
        sources = {name: archive.read(name) for name in archive.namelist() if name.endswith(".py")}
    carried = {name.removesuffix(".py").replace("/", ".") for name in sources}
    for name, source in sources.items():
        for node in ast.walk(ast.parse(source)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for module in names:
                top = module.partition(".")[0]
                known = top in {"numpy", "onnxruntime"} or top in sys.stdlib_module_names
                package = {f"{module}.__init__", module} & carried
                assert known or package, f"{name} imports {module}"
