"""A run folder, read for running: signatures from its manifest, graphs from its entries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from toolkit.core.errors import IntegrityError, UsageError
from toolkit.runtime.manifest import NAME, parse_signature
from toolkit.runtime.records import EntryRecord, Variant
from toolkit.runtime.strict import parse_json, safe_path


def detects(root: Path) -> bool:
    """Return whether a folder is a run folder: its manifest lists stages."""
    manifest = root / NAME
    if not manifest.is_file():
        return False
    try:
        return "stages" in parse_json(manifest.read_bytes(), where=str(manifest))
    except IntegrityError:
        return False


def read(root: Path) -> dict[str, EntryRecord]:
    """Read the exported entries and their variants; the default is `fp32`, else `exported`.

    Raises:
        UsageError: Nothing was exported here yet.
        IntegrityError: The manifest is malformed.
    """
    where = str(root / NAME)
    stages = parse_json((root / NAME).read_bytes(), where=where)["stages"]
    exported = _entries(stages, "export")
    optimized = _entries(stages, "optimize")
    records = {}
    for name, item in exported.items():
        files = {"exported": item.get("file")} | {
            variant: made.get("file")
            for variant, made in optimized.get(name, {}).get("variants", {}).items()
        }
        variants = {
            variant: Variant(safe_path(file, where=where))
            for variant, file in files.items()
            if file
        }
        if variants:
            signature = parse_signature(item["signature"], where=where)
            default = "fp32" if "fp32" in variants else "exported"
            golden = f"entries/{name}/golden.safetensors"
            records[name] = EntryRecord(signature, default, golden, variants)
    if not records:
        raise UsageError(
            "nothing is exported here yet", where=str(root), next_step=f"toolkit export {root.name}"
        )
    return records


def opener(root: Path) -> Callable[[Variant], AbstractContextManager[Path]]:
    """Return the opener of the folder's graphs, in place: the folder is the user's own work."""

    @contextmanager
    def open_file(variant: Variant) -> Iterator[Path]:
        path = root / variant.file
        if not path.is_file():
            raise UsageError(
                f"{variant.file} is not there",
                where=str(root),
                next_step=f"make it again: toolkit run {root.name} --from export",
            )
        yield path

    return open_file


def _entries(stages: dict[str, Any], stage: str) -> dict[str, Any]:
    entries: dict[str, Any] = stages.get(stage, {}).get("result", {}).get("entries", {})
    return entries
