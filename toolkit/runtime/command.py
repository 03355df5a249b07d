"""The command inside a bundle: `python run.py selftest | info | run`."""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.core.errors import INTERRUPTED, ToolkitError, UsageError
from toolkit.runtime.arrays import read_npz, write_npz
from toolkit.runtime.bundle import open_bundle
from toolkit.runtime.feeds import describe
from toolkit.runtime.golden import Result, selftest
from toolkit.runtime.session import load
from toolkit.runtime.strict import shown


def main(root: Path, arguments: Sequence[str] | None = None) -> int:
    """Run one command on the bundle at `root` and return the exit code."""
    options = _parser().parse_args(arguments)
    action: Callable[[Path, argparse.Namespace], int] = options.action
    try:
        _limit_memory(options.memory)
        return action(root, options)
    except ToolkitError as error:
        if options.json:
            _write_json(error.as_dict())
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="run.py", description="Test, describe or run this bundle."
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="one JSON document on standard output")
    common.add_argument("--threads", type=int, default=1, help="threads inside an operator")
    common.add_argument("--providers", default="cpu", help="such as cuda,cpu")
    common.add_argument("--timeout", type=float, default=60.0, help="seconds one call may take")
    common.add_argument("--memory", type=int, default=0, help="limit of address space in MiB")
    commands = parser.add_subparsers(required=True, metavar="selftest | info | run")
    test = commands.add_parser(
        "selftest", parents=[common], help="checksums, golden outputs, latency"
    )
    test.set_defaults(action=_selftest)
    info = commands.add_parser("info", parents=[common], help="entries, inputs and outputs")
    info.set_defaults(action=_info)
    run = commands.add_parser(
        "run", parents=[common], help="run an entry on arrays of an .npz file"
    )
    run.add_argument("entry")
    run.add_argument("inputs", type=Path)
    run.add_argument("-o", "--output", type=Path, default=Path("out.npz"))
    run.add_argument("--variant", default="")
    run.set_defaults(action=_run)
    return parser


def _selftest(root: Path, options: argparse.Namespace) -> int:
    start = time.perf_counter()
    results = selftest(
        root,
        threads=options.threads,
        providers=options.providers.split(","),
        timeout=options.timeout,
    )
    failed = any(result.status == "failed" for result in results)
    if options.json:
        document = {
            "status": "failed" if failed else "ok",
            "results": [result.as_dict() for result in results],
            "seconds": round(time.perf_counter() - start, 3),
            "machine": _machine(),
        }
        _write_json(document)
    else:
        sys.stdout.writelines(_line(result) + "\n" for result in results)
        sys.stdout.write("failed\n" if failed else "passed\n")
    return 1 if failed else 0


def _line(result: Result) -> str:
    words = [result.status, result.check, result.entry, result.variant, shown(result.output)]
    if result.value is not None:
        words.append(f"{result.value:.3g} {result.unit}")
    if result.limit is not None:
        words.append(f"(limit {result.limit:.3g})")
    return f"{' '.join(word for word in words if word)}: {shown(result.reason, limit=200)}"


def _info(root: Path, options: argparse.Namespace) -> int:
    manifest = open_bundle(root).manifest
    if options.json:
        _write_json(dict(manifest.table))
        return 0
    sys.stdout.write(f"{shown(manifest.name)} (toolkit {shown(manifest.toolkit)})\n")
    for name, record in manifest.entries.items():
        inputs = ", ".join(shown(describe(spec)) for spec in record.signature.inputs)
        outputs = ", ".join(shown(describe(spec)) for spec in record.signature.outputs)
        variants = ", ".join(record.variants)
        sys.stdout.write(
            f"{name}: ({inputs}) -> ({outputs})  variants: {variants}; default {record.default}\n"
        )
    return 0


def _run(root: Path, options: argparse.Namespace) -> int:
    with load(
        root,
        variant=options.variant,
        threads=options.threads,
        providers=options.providers.split(","),
        timeout=options.timeout,
    ) as session:
        call = session[options.entry]
        outputs = call.run(read_npz(options.inputs, call.signature))
    write_npz(options.output, outputs)
    return 0


def _machine() -> dict[str, str]:
    onnxruntime = importlib.import_module("onnxruntime")
    return {
        "architecture": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "onnxruntime": onnxruntime.__version__,
    }


def _limit_memory(mebibytes: int) -> None:
    if not mebibytes:
        return
    try:
        import resource
    except ImportError as error:
        raise UsageError(
            "this system has no memory limits", where="--memory", next_step="leave --memory out"
        ) from error
    try:
        resource.setrlimit(resource.RLIMIT_AS, (mebibytes << 20, mebibytes << 20))
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"cannot limit memory to {mebibytes} MiB: {error}",
            where="--memory",
            next_step="give a smaller, positive number",
        ) from error


def _write_json(document: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n")
