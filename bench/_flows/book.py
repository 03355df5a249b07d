"""The saved results: a row per entry, and which of them are out of date."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from _flows.places import Place
from _flows.summary import Row, name_of, summarise
from toolkit.core import machine
from toolkit.core.files import digest, sha256, write_json
from toolkit.stages._record import source_hash
from toolkit.stages.export import PACKAGES, SOURCES

# What every peer's result depends on; ours depends on all that an export does.
SHARED = ("core/entry.py", "checks/_draw.py")
RAW = ("slot_medians_ns", "calls")


class Book:
    """Rows by the entry's name, and the entries of every flow; raw samples in a file beside it.

    Arguments:
        path: The file; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.raw = path.with_name(f"{path.stem}_slots.json")
        saved = json.loads(path.read_text()) if path.exists() else {}
        self.slots: dict[str, Row] = json.loads(self.raw.read_text()) if self.raw.exists() else {}
        self.rows: dict[str, Row] = saved.get("rows", {})
        self.flows: dict[str, Row] = saved.get("flows", {})

    def put(self, row: Row) -> None:
        """Take a row and save."""
        name = name_of(row)
        self.rows[name] = row
        for item in row.get("latency", ()):
            if samples := {key: item.pop(key) for key in RAW if key in item}:
                self.slots.setdefault(name, {})[str(item["batch"])] = samples
        self.save()

    def save(self) -> None:
        """Write everything in one step."""
        saved: dict[str, Any] = {
            "machine": machine.describe(),
            "summary": summarise(list(self.rows.values())),
            "flows": self.flows,
            "rows": self.rows,
        }
        write_json(self.path, saved)
        write_json(self.raw, self.slots)

    def forget(self, library: str, places: Iterable[Place]) -> None:
        """Drop the rows of a library's entries that no longer exist."""
        left = {str(place) for place in places}
        gone = [name for name, row in self.rows.items() if row["library"] == library]
        for name in gone:
            if name not in left:
                del self.rows[name]


def source_of(place: Place, peer: str) -> str:
    """Return the hash of the source that a peer's result depends on."""
    bench = Path(__file__).parent
    files = [place.catalogue / f"{place.library}.py", bench / "peers.py", bench / "judge.py"]
    parts = SOURCES if peer == "ours" else (*SHARED, f"adapters/{place.library}.py")
    return digest([sha256(file) for file in files], _hashes(tuple(parts)), _versions())


@cache
def _hashes(parts: Sequence[str]) -> list[str]:
    return [source_hash(part) for part in parts]


@cache
def _versions() -> dict[str, str]:
    return machine.versions(*PACKAGES)
