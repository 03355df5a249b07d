"""What this machine has, what is missing, and the line that installs it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any, Literal

from toolkit.backends._providers import resolve, trouble
from toolkit.core import machine, registry
from toolkit.core.errors import ToolkitError
from toolkit.core.registry import PACKAGE_ROOT
from toolkit.core.require import install_line, installed
from toolkit.runtime.providers import PROVIDERS

Status = Literal["ok", "missing", "failed"]

RUNTIMES = ("onnxruntime", "onnxruntime-gpu")
OLDEST_PYTHON = (3, 11)
ANSWER_LIMIT = 20.0
QUERY = ("--query-gpu=name,driver_version,memory.total,compute_cap", "--format=csv,noheader")
# Per tool: programs of which one is enough, what it is for, and the line that installs it.
TOOLS = {
    "C++ compiler": (("g++", "clang++"), "torch.compile on a CPU", "apt-get install g++"),
    "Chromium": (
        ("chromium", "chromium-browser", "google-chrome"),
        "the report's own test",
        "apt-get install chromium",
    ),
    "ssh": (("ssh",), "toolkit deploy", "apt-get install openssh-client"),
}
_NAME = re.compile(r"^[A-Za-z0-9._-]+")
_EXTRA = re.compile(r"extra\s*==\s*['\"]([^'\"]+)['\"]")


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that was looked for.

    Arguments:
        group: `system`, `package`, `provider`, `backend`, `gpu` or `program`.
        name: What it is.
        status: `ok`; `missing`: not here, which is fine where it is optional; `failed`: broken.
        detail: Version, name or reason.
        install: The line that mends it; empty where nothing is wrong.
        required: Whether the toolkit cannot work without it.
    """

    group: str
    name: str
    status: Status
    detail: str = ""
    install: str = ""
    required: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return asdict(self)


def examine() -> list[Item]:
    """Look for all that the toolkit may use."""
    return [
        *_system(),
        *_packages(),
        _runtime(),
        *_providers(),
        *_backends(),
        *_gpu(),
        *_programs(),
    ]


def is_broken(items: Sequence[Item]) -> bool:
    """Return whether something that is required is missing or broken."""
    return any(item.required and item.status != "ok" for item in items)


def _system() -> Iterator[Item]:
    here = machine.describe()
    gigabytes = here["memory_bytes"] / 1e9
    yield Item("system", "processor", "ok", f"{here['processor']}, {here['cores']} cores")
    yield Item("system", "memory", "ok", f"{gigabytes:.1f} GB")
    good = sys.version_info[:2] >= OLDEST_PYTHON
    wanted = ".".join(map(str, OLDEST_PYTHON))
    yield Item(
        "system",
        "Python",
        "ok" if good else "failed",
        here["python"],
        "" if good else f"use Python {wanted} or newer",
        required=True,
    )


def _packages() -> Iterator[Item]:
    from packaging.requirements import Requirement

    for line, extra in requirements():
        requirement = Requirement(line)
        name = _NAME.findall(line)[0]
        if name in RUNTIMES or extra == "test":
            continue
        fix = install_line(extra) if extra else f"pip install '{line}'"
        version = machine.versions(name).get(name)
        if version is None:
            yield Item("package", name, "missing", f"for [{extra}]" * bool(extra), fix, not extra)
        elif not requirement.specifier.contains(version, prereleases=True):
            detail = f"{version}, tested with {requirement.specifier}"
            yield Item("package", name, "failed", detail, fix, not extra)
        else:
            yield Item("package", name, "ok", version, required=not extra)


def requirements() -> list[tuple[str, str]]:
    """Return the toolkit's requirements, each with the extra that it belongs to, or nothing."""
    project = PACKAGE_ROOT.parent / "pyproject.toml"
    if project.is_file():
        table = tomllib.loads(project.read_text())["project"]
        optional = table["optional-dependencies"].items()
        plain = [(line, "") for line in table["dependencies"]]
        return plain + [(line, extra) for extra, lines in optional for line in lines]
    lines = [line.partition(";") for line in metadata.requires("toolkit") or []]
    return [
        (line.strip(), found[1] if (found := _EXTRA.search(marker)) else "")
        for line, _, marker in lines
    ]


def _runtime() -> Item:
    """Return what is to say about ONNX Runtime: two packages of it own one import."""
    found = machine.versions(*RUNTIMES)
    detail = ", ".join(f"{name} {version}" for name, version in found.items())
    if len(found) == len(RUNTIMES):
        return Item(
            "package",
            "onnxruntime",
            "failed",
            f"{detail}: both own the import onnxruntime, and each overwrites the other's files",
            f"pip uninstall -y {' '.join(RUNTIMES)}; {install_line('cpu')} (or [gpu])",
            required=True,
        )
    if not installed("onnxruntime"):
        return Item("package", "onnxruntime", "missing", "", install_line("cpu"), required=True)
    try:
        import onnxruntime
    except ImportError as error:
        again = f"pip install --force-reinstall --no-deps {next(iter(found), 'onnxruntime')}"
        return Item("package", "onnxruntime", "failed", str(error), again, required=True)
    providers = ", ".join(onnxruntime.get_available_providers())
    return Item("package", "onnxruntime", "ok", f"{detail}: {providers}", required=True)


def _providers() -> Iterator[Item]:
    """Yield whether each provider runs: onnxruntime names all that are compiled into it."""
    if not installed("onnxruntime"):
        return
    for short, name in PROVIDERS.items():
        try:
            resolve([name])
        except ToolkitError:
            continue
        detail, _, fix = trouble(name).partition(": ")
        yield Item("provider", short, "missing" if detail else "ok", detail, fix)


def _backends() -> Iterator[Item]:
    for name in registry.backends.names():
        shown = name.replace("_", "-")
        try:
            backend = registry.backends.load(name)
            device = "cuda" if backend.formats == ("engine",) else "cpu"
            reason = backend.absent(device=device)
        except ToolkitError as error:
            reason = f"{error.what}: {error.next_step}"
        detail, _, fix = reason.partition(": ")
        yield Item("backend", shown, "missing" if reason else "ok", detail, fix)


def _gpu() -> Iterator[Item]:
    listed = _output("nvidia-smi", *QUERY)
    if not listed:
        reason = "no NVIDIA GPU is visible here; engines are still built, and not run"
        yield Item("gpu", "NVIDIA driver", "missing", reason)
        return
    for line in listed.splitlines():
        name, driver, memory, capability = [part.strip() for part in line.split(",")]
        detail = f"driver {driver}, {memory}, compute capability {capability}"
        yield Item("gpu", name, "ok", detail)
    import torch

    usable = torch.cuda.is_available()
    yield Item(
        "gpu",
        "torch with CUDA",
        "ok" if usable else "missing",
        f"CUDA {torch.version.cuda}" if usable else f"torch {torch.__version__} sees no CUDA",
        "" if usable else f"pip install torch=={torch.__version__.partition('+')[0]} (CUDA build)",
    )


def _programs() -> Iterator[Item]:
    for name, (programs, purpose, fix) in TOOLS.items():
        path = next(filter(None, map(shutil.which, programs)), "")
        yield Item(
            "program", name, "ok" if path else "missing", path or f"for {purpose}", fix * (not path)
        )


def _output(*command: str) -> str:
    """Return what a program prints; nothing where it is absent or fails."""
    if not shutil.which(command[0]):
        return ""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=ANSWER_LIMIT, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
