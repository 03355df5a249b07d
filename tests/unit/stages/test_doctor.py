from __future__ import annotations

import builtins
import os
from pathlib import Path

import pytest

from toolkit.core import machine
from toolkit.core.registry import backends
from toolkit.stages import doctor


def named(items, name: str) -> doctor.Item:
    return next(item for item in items if item.name == name)


def only_packages(monkeypatch, versions: dict[str, str]) -> None:
    monkeypatch.setattr(
        machine, "versions", lambda *names: {n: versions[n] for n in names if n in versions}
    )


def program(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_this_machine_is_not_broken():
    items = doctor.examine()
    assert not doctor.is_broken(items)
    groups = {"system", "package", "provider", "backend", "gpu", "program"}
    assert {item.group for item in items} == groups
    assert named(items, "cpu").group == "provider"
    assert named(items, "torch").status == "ok"
    shown = {item.name for item in items if item.group == "backend"}
    assert shown == {name.replace("_", "-") for name in backends.names()}


def test_what_is_missing_comes_with_the_line_that_installs_it():
    for item in doctor.examine():
        if item.group in ("package", "program") and item.status != "ok":
            assert item.install


def test_two_onnxruntimes_are_a_finding(monkeypatch):
    only_packages(monkeypatch, {"onnxruntime": "1.31.1", "onnxruntime-gpu": "1.31.1"})
    item = doctor._runtime()
    assert (item.status, item.required) == ("failed", True)
    assert item.install.startswith("pip uninstall -y onnxruntime onnxruntime-gpu")
    assert doctor.is_broken([item])


def test_missing_onnxruntime_breaks(monkeypatch):
    monkeypatch.setattr(doctor, "installed", lambda _: False)
    only_packages(monkeypatch, {})
    item = doctor._runtime()
    assert (item.status, item.install) == ("missing", "pip install 'toolkit[cpu]'")
    assert doctor.is_broken([item])


def test_onnxruntime_that_does_not_import_breaks(monkeypatch):
    real = builtins.__import__

    def broken(name, *rest):
        if name == "onnxruntime":
            raise ImportError("libcudart.so.13: cannot open shared object file")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", broken)
    item = doctor._runtime()
    assert item.status == "failed"
    assert "libcudart" in item.detail
    assert "--force-reinstall" in item.install


@pytest.mark.parametrize(
    ("version", "status"), [("2.13.0+cpu", "ok"), ("2.12.1", "failed"), ("2.15.0", "failed")]
)
def test_version_outside_the_tested_range_is_a_finding(monkeypatch, version, status):
    only_packages(monkeypatch, {"torch": version})
    items = list(doctor._packages())
    assert named(items, "torch").status == status
    assert doctor.is_broken([named(items, "torch")]) == (status == "failed")
    numpy = named(items, "numpy")
    assert (numpy.status, numpy.install) == ("missing", "pip install 'numpy>=2.1'")
    openvino = named(items, "openvino")
    assert (openvino.install, openvino.required) == ("pip install 'toolkit[openvino]'", False)


def test_requirements_are_read_without_the_checkout_too(monkeypatch, tmp_path):
    lines = ["numpy>=2.1", 'onnxruntime<1.32,>=1.30; extra == "cpu"', "zuko>=1.5; extra == 'flows'"]
    monkeypatch.setattr(doctor, "PACKAGE_ROOT", tmp_path / "toolkit")
    monkeypatch.setattr(doctor.metadata, "requires", lambda _: lines)
    assert doctor.requirements() == [
        ("numpy>=2.1", ""),
        ("onnxruntime<1.32,>=1.30", "cpu"),
        ("zuko>=1.5", "flows"),
    ]


def test_gpu_and_driver_are_named(monkeypatch, tmp_path):
    program(tmp_path, "nvidia-smi", "echo 'NVIDIA H200, 580.95, 143771 MiB, 9.0'")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    card, with_cuda = doctor._gpu()
    assert (card.name, card.status) == ("NVIDIA H200", "ok")
    assert card.detail == "driver 580.95, 143771 MiB, compute capability 9.0"
    assert with_cuda.status == "missing"
    assert "CUDA build" in with_cuda.install


@pytest.mark.parametrize("text", ["exit 9", "sleep 5", "echo"])
def test_driver_that_does_not_answer_is_no_gpu(monkeypatch, tmp_path, text):
    program(tmp_path, "nvidia-smi", text)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(doctor, "ANSWER_LIMIT", 0.2)
    (item,) = doctor._gpu()
    assert item.status == "missing"


def test_absent_programs_are_missing(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    program(tmp_path, "clang++", "exit 0")
    items = list(doctor._programs())
    assert named(items, "C++ compiler").detail == str(tmp_path / "clang++")
    assert named(items, "Chromium").install == "apt-get install chromium"
