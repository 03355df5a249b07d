"""Records of finished stages in the manifest: keys, outputs, versions."""

from __future__ import annotations

import importlib
import importlib.util
import os
import time
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from toolkit.core import machine, places
from toolkit.core.files import digest, sha256, write_text
from toolkit.core.folder import RunFolder
from toolkit.core.outcome import Outcome
from toolkit.core.recipe import Recipe
from toolkit.core.registry import PACKAGE_ROOT

STAGES = ("train", "export", "optimize", "build", "verify", "bench", "bundle", "report")


def stage_module(name: str) -> ModuleType:
    """Import one stage."""
    return importlib.import_module(f"toolkit.stages.{name}")


def stage_key(name: str, recipe: Recipe, folder: RunFolder) -> str:
    """Return the hash of all that a stage's result depends on.

    That is: what the stages it reads recorded, its sections of the recipe, the toolkit's own
    source and that of the user's modules which the recipe names, the files that its data come
    from, the versions of what it calls and, where it measures, the machine.
    """
    module = stage_module(name)
    table = recipe.model_dump(mode="json")
    stages = folder.manifest()["stages"]
    return digest(
        {key: table[key] for key in module.SECTIONS},
        {stage: _left(stages[stage]) for stage in module.AFTER if stage in stages},
        {source: source_hash(source) for source in module.SOURCES},
        source_hash(f"stages/{name}.py"),
        _users_sources(recipe) if "model" in module.SECTIONS else {},
        _users_data(recipe) if "data" in module.SECTIONS else "",
        machine.versions(*module.PACKAGES) if module.PACKAGES else {},
        [machine.processor(), os.cpu_count()] if module.MEASURES else [],
    )


def _left(record: dict[str, Any]) -> list[Any]:
    """Return what a stage left for later ones: status, files and result, but no timings."""
    return [record["status"], record["outputs"], _untimed(record["result"])]


def _untimed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _untimed(item) for key, item in value.items() if key != "seconds"}
    return [_untimed(item) for item in value] if isinstance(value, list | tuple) else value


def _users_sources(recipe: Recipe) -> dict[str, str]:
    """Return the hash of each module outside the toolkit that the recipe names."""
    named = (recipe.model.name, recipe.data.name, recipe.train.objective)
    modules = {name.partition(":")[0] for name in named if ":" in name}
    return {name: sha256(path) for name in sorted(modules) if (path := _file_of(name))}


def _users_data(recipe: Recipe) -> str:
    """Return what tells the files of a place that the recipe's data come from."""
    name = recipe.data.name
    return places.fingerprint(name) if places.loader(name) else ""


def _file_of(module: str) -> Path | None:
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        # Whoever loads the module says what is wrong with its name.
        return None
    path = Path(found.origin) if found is not None and found.origin else None
    return path if path is not None and path.is_file() else None


@cache
def source_hash(part: str) -> str:
    """Return the hash of a folder or file of the toolkit."""
    path = PACKAGE_ROOT / part
    files = [path] if path.is_file() else sorted(path.rglob("*.py")) + sorted(path.rglob("*.j2"))
    return digest([(file.name, sha256(file)) for file in files])


def is_current(name: str, recipe: Recipe, folder: RunFolder) -> bool:
    """Return whether a stage finished with the same key and its outputs are untouched."""
    record = folder.manifest()["stages"].get(name)
    if record is None or record["status"] == "failed":
        return False
    if record["key"] != stage_key(name, recipe, folder):
        return False
    return all(
        (folder.path / file).is_file() and sha256(folder.path / file) == known
        for file, known in record["outputs"].items()
    )


def is_stale(name: str, recipe: Recipe, folder: RunFolder) -> bool:
    """Return whether a recorded result is of another recipe, other inputs or another source."""
    record = folder.manifest()["stages"].get(name, {})
    return "key" in record and record["key"] != stage_key(name, recipe, folder)


def record_stage(
    folder: RunFolder, name: str, recipe: Recipe, outcome: Outcome, *, started: float = 0.0
) -> dict[str, Any]:
    """Write a stage's record, and the recipe it ran with, and return the record."""
    import tomli_w

    record = {
        "status": outcome.status,
        "reason": outcome.reason,
        "key": stage_key(name, recipe, folder),
        "outputs": {file: sha256(folder.path / file) for file in outcome.detail.get("files", [])},
        "versions": machine.versions(),
        "seconds": round(time.perf_counter() - started, 3) if started else None,
        "result": outcome.detail,
    }
    write_text(folder.path / "recipe.toml", tomli_w.dumps(recipe.model_dump(mode="json")))
    folder.record(name, record)
    return record
