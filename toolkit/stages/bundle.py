"""Bundle: one zip with graphs, golden files, limits, checksums and a runner of its own."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from toolkit.core import machine
from toolkit.core.errors import CheckFailed, UsageError
from toolkit.core.files import replacing, sha256
from toolkit.core.folder import RunFolder
from toolkit.core.outcome import Outcome
from toolkit.core.protocols import Progress, silent
from toolkit.core.recipe import Recipe
from toolkit.core.registry import PACKAGE_ROOT
from toolkit.runtime.golden import selftest
from toolkit.runtime.limits import FORMULA
from toolkit.runtime.manifest import KIND, NAME, SCHEMA, render
from toolkit.stages._bundled import bundle_entry
from toolkit.stages._record import is_stale

AFTER = ("export", "optimize", "build", "verify", "bench")
SECTIONS = ("name", "verify", "optimize")
SOURCES = ("core", "runtime", "stages/_bundled.py", "stages/_operators.py")
PACKAGES = ("numpy", "onnx", "onnxruntime", "safetensors")
MEASURES = False

BUNDLE = "bundle.zip"
NEEDS = "0.1"
CARRIED = ("core/errors.py", "core/signature.py")
STUBS = {
    "toolkit/__init__.py": b'"""The runner of a bundle."""\n',
    "toolkit/core/__init__.py": b'"""What the runner stands on."""\n',
}
# The earliest date that a zip can hold: same input, same bytes.
EPOCH = (1980, 1, 1, 0, 0, 0)

Members = dict[str, bytes | Path]


def run(
    recipe: Recipe,
    folder: RunFolder,
    *,
    engines: bool = False,
    progress: Progress = silent,  # noqa: ARG001  (a second's work)
) -> Outcome:
    """Write `bundle.zip`; it must pass its own self-test before it takes its name.

    Arguments:
        recipe: Budgets and limits.
        folder: A verified run folder.
        engines: Put the built TensorRT engines in, too.
        progress: Not called: this is a second's work.

    Raises:
        UsageError: A stage that this one reads has not run, or verify ran on other graphs.
    """
    target = folder.path / BUNDLE
    failed = folder.stage("verify")["failed"]
    if failed:
        # An older bundle here would hold other graphs than the folder does.
        target.unlink(missing_ok=True)
        return Outcome("failed", f"verify has {failed} failed findings: nothing is bundled")
    if is_stale("verify", recipe, folder):
        raise UsageError(
            "the findings are of an earlier state: graphs, settings or source have changed since",
            where=str(folder.path),
            next_step=f"toolkit verify {folder.path}",
        )
    members, table = contents(recipe, folder, engines=engines)
    try:
        with replacing(target) as temporary:
            write_zip(temporary, members, table)
            _pass_own_test(temporary)
    except CheckFailed as error:
        target.unlink(missing_ok=True)
        return Outcome("failed", str(error))
    detail = {
        "files": [BUNDLE],
        "bytes": target.stat().st_size,
        "entries": sorted(table["entries"]),
    }
    return Outcome("ok", detail=detail)


def contents(
    recipe: Recipe, folder: RunFolder, *, engines: bool = False
) -> tuple[Members, dict[str, Any]]:
    """Return the bundle's files and its manifest, the checksums of the files included."""
    members = _runner()
    entries: dict[str, Any] = {}
    for name in folder.stage("export")["entries"]:
        entries[name] = bundle_entry(recipe, folder, name, members)
    built = _engines(folder, members) if engines else []
    table = {
        "schema": SCHEMA,
        "kind": KIND,
        "requires": [],
        "needs": NEEDS,
        "name": recipe.name or folder.name,
        "toolkit": machine.versions("toolkit").get("toolkit", NEEDS),
        "formula": FORMULA,
        "k": recipe.verify.k,
        "files": {name: _record(content) for name, content in members.items()},
        "entries": entries,
        "engines": built,
        "latency": _latency(folder, entries),
        "versions": machine.versions(),
        "verified": {key: folder.stage("verify")[key] for key in ("ok", "failed", "skipped")},
    }
    return members, table


def write_zip(path: Path, members: Members, table: Mapping[str, Any]) -> None:
    """Write members and manifest in the order of their names, with fixed dates and modes."""
    everything: Members = {**members, NAME: render(table)}
    with zipfile.ZipFile(path, "w") as archive:
        for name in sorted(everything):
            content = everything[name]
            info = zipfile.ZipInfo(name, EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system = 3
            info.external_attr = 0o100644 << 16
            if isinstance(content, bytes):
                archive.writestr(info, content, compresslevel=6)
                continue
            info.file_size = content.stat().st_size
            with content.open("rb") as source, archive.open(info, "w") as stream:
                shutil.copyfileobj(source, stream, 1 << 20)


def _pass_own_test(path: Path) -> None:
    bad = [result for result in selftest(path) if result.status == "failed"]
    if bad:
        first = bad[0]
        raise CheckFailed(
            f"the bundle fails its own self-test: {first.reason}",
            where=f"{first.entry} {first.variant} {first.output}",
            next_step="toolkit verify, then read its findings",
        )


def _runner() -> Members:
    runtime = sorted((PACKAGE_ROOT / "runtime").glob("*.py"))
    carried = [PACKAGE_ROOT / name for name in CARRIED] + runtime
    members: Members = dict(STUBS)
    for path in carried:
        name = path.relative_to(PACKAGE_ROOT).as_posix()
        members["run.py" if name == "runtime/run.py" else f"toolkit/{name}"] = path.read_bytes()
    return members


def _record(content: bytes | Path) -> dict[str, Any]:
    if isinstance(content, bytes):
        return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    return {"sha256": sha256(content), "bytes": content.stat().st_size}


def _engines(folder: RunFolder, members: Members) -> list[dict[str, Any]]:
    if not folder.has_stage("build"):
        return []
    built = [row for row in folder.stage("build")["engines"] if row["status"] == "ok"]
    for row in built:
        members[row["file"]] = folder.path / row["file"]
    return [
        {key: row[key] for key in ("entry", "engine", "precision", "target", "file")}
        for row in built
    ]


def _latency(folder: RunFolder, entries: Mapping[str, Any]) -> list[dict[str, Any]]:
    results = folder.path / "bench" / "results.json"
    if not folder.has_stage("bench") or not results.is_file():
        return []
    measured = json.loads(results.read_text())
    return [
        {
            **{key: row[key] for key in ("entry", "variant", "batch", "threads", "p50_ms")},
            "noise_band": row["noise_band"],
            "processor": measured["machine"]["processor"],
        }
        for row in measured["rows"]
        if row["backend"] == "onnxruntime"
        and row.get("role", "contestant") == "contestant"
        and row["p50_ms"]
        and row["variant"] in entries.get(row["entry"], {}).get("variants", {})
    ]
