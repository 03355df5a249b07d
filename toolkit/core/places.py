"""Data sets that are named by a scheme and a place: `folder:path` and `hf:owner/name`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

from toolkit.core.files import digest
from toolkit.core.protocols import Data
from toolkit.core.registry import load_attribute

LOADERS = {"folder": "toolkit.data._folder:dataset", "hf": "toolkit.data._hf:dataset"}


def loader(name: str) -> Callable[..., Data] | None:
    """Return what loads `scheme:place`; `None` where the name has no such scheme."""
    scheme, _, place = name.partition(":")
    if not place or scheme not in LOADERS:
        return None
    return functools.partial(load_attribute(LOADERS[scheme]), place)


def fingerprint(name: str) -> str:
    """Return a hash of the names, sizes and times of a place's files; of the name if not local."""
    place = Path(name.partition(":")[2]).expanduser()
    files = [path for path in sorted(place.rglob("*")) if path.is_file()] if place.is_dir() else []
    facts = [(path, path.stat()) for path in files]
    return digest(
        name, [(str(path.relative_to(place)), s.st_size, s.st_mtime_ns) for path, s in facts]
    )
