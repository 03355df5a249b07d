"""Build engines in child processes: one for several builds, and a crash costs one build only."""

from __future__ import annotations

import faulthandler
import json
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
from toolkit.core.files import sha256, write_bytes
from toolkit.core.require import require

STARTING = 60.0


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


def device_capability() -> str:
    """Return the compute capability of the GPU here, such as `8.6`; empty where there is none."""
    import torch

    if not torch.cuda.is_available():
        return ""
    major, minor = torch.cuda.get_device_capability()
    return f"{major}.{minor}"


def build_group(
    package: str, extra: str, jobs: list[dict[str, Any]], journal: str, timeout: float
) -> None:
    """Build one engine after the other, in a child process, and note each result at once.

    Arguments:
        package: `tensorrt` or `tensorrt_rtx`.
        extra: The toolkit's extra that installs it.
        jobs: `EngineJob` as dictionaries.
        journal: File that gets one JSON line when a build begins and one when it ends.
        timeout: Seconds that one build may take; then the process ends itself.
    """
    require(package, extra=extra)
    with Path(journal).open("a") as stream:
        for job in jobs:
            _note(stream, {"began": time.monotonic()})
            # A hang inside the library never returns to Python; only this watchdog ends it.
            faulthandler.dump_traceback_later(timeout, exit=True)
            try:
                outcome = _build_job(package, extra, job)
            finally:
                faulthandler.cancel_dump_traceback_later()
            _note(stream, outcome)


def _note(stream: Any, line: dict[str, Any]) -> None:
    stream.write(json.dumps(line) + "\n")
    stream.flush()


def _build_job(package: str, extra: str, job: dict[str, Any]) -> dict[str, Any]:
    paths = Path(job["onnx_path"]), Path(job["engine_path"])
    options = {key: job[key] for key in ("target", "precision", "profiles")}
    try:
        return build(*paths, package=package, extra=extra, **options)
    except ToolkitError as error:
        return result("failed", str(error))


def build_isolated(
    package: str,
    extra: str,
    jobs: Sequence[EngineJob],
    *,
    timeout: float,
    progress: BuildProgress | None = None,
) -> list[dict[str, Any]]:
    """Build engines in a child process; where it dies, the next child goes on after that build.

    Arguments:
        package: `tensorrt` or `tensorrt_rtx`.
        extra: The toolkit's extra that installs it.
        jobs: The engines, in order.
        timeout: Seconds that one build may take.
        progress: Called with each job and its result.

    Returns:
        One result per job; see `build`.
    """
    results: list[dict[str, Any]] = []
    while len(results) < len(jobs):
        done = _run_child(package, extra, jobs[len(results) :], timeout)
        for outcome in done:
            if progress is not None:
                progress(jobs[len(results)], outcome)
            results.append(outcome)
    return results


def _run_child(
    package: str, extra: str, jobs: Sequence[EngineJob], timeout: float
) -> list[dict[str, Any]]:
    """Return the results of at least the first job."""
    with tempfile.TemporaryDirectory(prefix="toolkit-") as scratch:
        journal = Path(scratch, "journal.jsonl")
        arguments = {
            "package": package,
            "extra": extra,
            "jobs": [asdict(job) for job in jobs],
            "journal": str(journal),
            "timeout": timeout,
        }
        try:
            isolate.call(
                f"{__name__}:build_group", arguments, timeout=timeout * len(jobs) + STARTING
            )
        except ToolkitError as error:
            done, began = _read_journal(journal)
            if error.exit_code == MissingError.exit_code and not done:
                return [result("skipped", str(error))] * len(jobs)
            return [*done, _died(error, began, timeout)]
        return _read_journal(journal)[0]


def _read_journal(journal: Path) -> tuple[list[dict[str, Any]], float | None]:
    """Return the finished builds, and when an unfinished one began."""
    lines = (
        [json.loads(line) for line in journal.read_text().splitlines()] if journal.exists() else []
    )
    done = [line for line in lines if "status" in line]
    return done, lines[-1].get("began") if lines else None


def _died(error: ToolkitError, began: float | None, timeout: float) -> dict[str, Any]:
    if began is not None and time.monotonic() - began >= timeout:
        return result("failed", f"the build did not finish within {timeout:g} s")
    return result("failed", f"the build process died: {error}")
