"""Forgeries: a manifest or file changed and closed with right checksums again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from toolkit.runtime.manifest import render

Edit = Callable[[Callable[[dict[str, Any]], object]], None]
Reseal = Callable[[str, bytes], None]


@pytest.fixture
def edit(unpacked: Path) -> Edit:
    """Change the manifest and close it with a right digest again."""

    def run(change: Callable[[dict[str, Any]], object]) -> None:
        path = unpacked / "manifest.json"
        table = json.loads(path.read_text())
        change(table)
        path.write_bytes(render(table))

    return run


@pytest.fixture
def reseal(unpacked: Path, edit: Edit) -> Reseal:
    """Replace a file and its checksum."""

    def run(name: str, content: bytes) -> None:
        (unpacked / name).write_bytes(content)
        record = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        edit(lambda table: table["files"].update({name: record}))

    return run
