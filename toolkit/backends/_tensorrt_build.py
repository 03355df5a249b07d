"""Build engines in a child process that forks for each: a crash costs one engine."""

from __future__ import annotations

import ctypes
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from toolkit.backends._tensorrt_api import RefusedError, build_plan, targets
from toolkit.backends._tensorrt_graph import Profiles, profile_shapes, read_inlined
from toolkit.backends._tensorrt_plan import check_target
from toolkit.core import isolate
from toolkit.core.engine import BuildProgress, EngineJob
from toolkit.core.errors import MissingError, ToolkitError
from toolkit.core.files import sha256, write_bytes, write_text
from toolkit.core.require import require

STARTING = 60.0
MOST_TEXT = 2000
ASK = 0xFFFFFFFF
FIXED_ADDRESSES = 0x0040000


def build(
    onnx_path: Path,
    engine_path: Path,
    *,
    package: str,
    extra: str,
    target: str,
    precision: str,
    profiles: Profiles,
) -> dict[str, Any]:
    """Build one engine in this process and write it in one step.

    Arguments:
        onnx_path: The graph.
        engine_path: The engine to write.
        package: `tensorrt` or `tensorrt_rtx`.
        extra: The toolkit's extra that installs it.
        target: Compute capability such as `8.6`.
        precision: The graph's precision.
        profiles: Per dynamic dimension: minimum, typical, maximum.

    Returns:
        `status`, `reason`, `refused`, `sha256`, `bytes` and `seconds` (of parse and build).

    Raises:
        ToolkitError: The build failed for another reason than a node that TensorRT refuses.
    """
    api = require(package, extra=extra)
    reason = _unsupported(api, package, target)
    if reason:
        return result("skipped", reason)
    begin = time.perf_counter()
    model = read_inlined(onnx_path)
    shapes = profile_shapes(model, profiles)
    try:
        plan = build_plan(
            api, model, path=onnx_path, shapes=shapes, target=target, precision=precision
        )
    except RefusedError as error:
        return result("failed", error.what, refused=[asdict(item) for item in error.refused])
    seconds = time.perf_counter() - begin
    check_target(plan, target, where=str(engine_path))
    write_bytes(engine_path, plan)
    return result(
        "ok", sha256=sha256(engine_path), bytes=engine_path.stat().st_size, seconds=seconds
    )


def result(status: str, reason: str = "", **values: Any) -> dict[str, Any]:
    """Return one build's result with every key."""
    empty: dict[str, Any] = {"sha256": None, "bytes": None, "seconds": None, "refused": []}
    return {"status": status, "reason": reason, **empty, **values}


def _unsupported(api: Any, package: str, target: str) -> str:
    """Return why a version cannot build for a target; empty where it can."""
    known = targets(api)
    if known:
        name = f"{package} {api.__version__}"
        return "" if target in known else f"{name} builds for {', '.join(known)}, not {target}"
    here = device_capability()
    if here == target:
        return ""
    return f"{package} builds for the GPU it runs on ({here or 'none here'}), not {target}"


def device_capability(device: str = "cuda") -> str:
    """Return the compute capability of a GPU here, such as `8.6`; empty where there is none.

    Arguments:
        device: `cuda` or `cuda:1`; an engine runs on CUDA whatever else is said.
    """
    import torch

    if not torch.cuda.is_available():
        return ""
    major, minor = torch.cuda.get_device_capability(device if device.startswith("cuda") else "cuda")
    return f"{major}.{minor}"


def build_group(
    package: str, extra: str, jobs: list[dict[str, Any]], timeout: float
) -> list[dict[str, Any]]:
    """Build engines in forks of this process, which has the library loaded; one result per job.

    A fork costs nothing against loading the library again, a crash in it costs one engine, and
    every build begins with the same memory.

    Arguments:
        package: `tensorrt` or `tensorrt_rtx`.
        extra: The toolkit's extra that installs it.
        jobs: `EngineJob` as dictionaries.
        timeout: Seconds that one build may take.

    Raises:
        MissingError: The library does not load.
    """
    fix_addresses()
    require(package, extra=extra)
    with tempfile.TemporaryDirectory(prefix="toolkit-") as scratch:
        answer = Path(scratch, "answer.json")
        return [_forked(package, extra, job, answer, timeout) for job in jobs]


def fix_addresses() -> None:
    """Start this process anew without address randomisation, where the system allows that.

    TensorRT-RTX orders parts of a plan by their addresses: with random ones, building the same
    engines twice gives different bytes.
    """
    if sys.platform != "linux":
        return
    system = ctypes.CDLL(None, use_errno=True)
    now = system.personality(ASK)
    if now != -1 and not now & FIXED_ADDRESSES and system.personality(now | FIXED_ADDRESSES) != -1:
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - the same command again


def _forked(
    package: str, extra: str, job: dict[str, Any], answer: Path, timeout: float
) -> dict[str, Any]:
    answer.unlink(missing_ok=True)
    log = answer.with_suffix(".log")
    log.write_bytes(b"")
    process = multiprocessing.get_context("fork").Process(
        target=_build_job, args=(package, extra, job, answer, log)
    )
    process.start()
    process.join(timeout)
    if process.is_alive():
        process.kill()
        process.join()
        return result("failed", f"the build did not finish within {timeout:g} s")
    if not answer.exists():
        said = log.read_text(errors="replace")[-MOST_TEXT:].strip()
        return result(
            "failed", f"the build process died: {isolate.death(process.exitcode)}. {said}"
        )
    answered: dict[str, Any] = json.loads(answer.read_text())
    return answered


def _build_job(package: str, extra: str, job: dict[str, Any], answer: Path, log: Path) -> None:
    with log.open("wb") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    paths = Path(job["onnx_path"]), Path(job["engine_path"])
    options = {key: job[key] for key in ("target", "precision", "profiles")}
    try:
        outcome = build(*paths, package=package, extra=extra, **options)
    except ToolkitError as error:
        outcome = result("failed", str(error))
    write_text(answer, json.dumps(outcome))


def build_isolated(
    package: str,
    extra: str,
    jobs: Sequence[EngineJob],
    *,
    timeout: float,
    progress: BuildProgress | None = None,
) -> list[dict[str, Any]]:
    """Build engines in a child process.

    Arguments:
        package: `tensorrt` or `tensorrt_rtx`.
        extra: The toolkit's extra that installs it.
        jobs: The engines, in order.
        timeout: Seconds that one build may take.
        progress: Called with each job and its result.

    Returns:
        One result per job; see `build`.
    """
    arguments = {
        "package": package,
        "extra": extra,
        "jobs": [asdict(job) for job in jobs],
        "timeout": timeout,
    }
    limit = timeout * len(jobs) + STARTING
    try:
        results: list[dict[str, Any]] = isolate.call(
            f"{__name__}:build_group", arguments, timeout=limit
        )
    except ToolkitError as error:
        missing = error.exit_code == MissingError.exit_code
        results = [result("skipped" if missing else "failed", str(error))] * len(jobs)
    for job, outcome in zip(jobs, results, strict=True):
        if progress is not None:
            progress(job, outcome)
    return results
