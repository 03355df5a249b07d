"""For a pytest user: one assertion that a model's export is right."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.core.entry import Entry

if TYPE_CHECKING:
    from torch import nn


def assert_parity(
    model: nn.Module, entries: Sequence[Entry], *, folder: Path | None = None, **settings: Any
) -> None:
    """Export entries and assert that every check passes on every one of them.

    Arguments:
        model: Any module.
        entries: The graphs to export.
        folder: Where the files go; a temporary folder by default.
        settings: Keys of the recipe's `[export]` section.

    Raises:
        AssertionError: An entry does not export, or a check fails; each is named with its numbers.
    """
    from toolkit.stages.export import export
    from toolkit.stages.verify import verify

    with tempfile.TemporaryDirectory(prefix="toolkit-") as scratch:
        place = folder or Path(scratch, "run")
        results = export(model, entries, place, **settings)
        problems = [
            f"{name}: {result.outcome.reason}"
            for name, result in results.items()
            if not result.outcome.ok
        ]
        if len(problems) < len(results):
            problems += [
                f"{item.entry}: {item.check}: {item.value} against {item.limit}: {item.reason}"
                for item in verify(place)
                if item.status == "failed"
            ]
    if problems:
        raise AssertionError("\n".join(problems))
