"""The eager module of a run's entry, for the processes that time or check it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.core.errors import UsageError
from toolkit.core.folder import RunFolder
from toolkit.core.recipe import parse_recipe

if TYPE_CHECKING:
    from torch import nn


def reference(recipe: dict[str, Any], folder: str, entry: str) -> nn.Module:
    """Return the module `(*tensors) -> tensors` of an entry's plain form, with the run's weights.

    Arguments:
        recipe: The recipe as a JSON-ready table.
        folder: The run folder.
        entry: Name of the entry.

    Raises:
        UsageError: The model has no such entry, or no weights.
    """
    from toolkit.capture.module import reference_module
    from toolkit.stages._entries import entries_of
    from toolkit.stages._model import load_model

    table = parse_recipe(recipe, where=folder)
    model = load_model(table, RunFolder(Path(folder)))
    found = {item.name: item for item in entries_of(model, table)}
    if entry not in found:
        raise UsageError(
            f"the model has no entry {entry!r}",
            where=", ".join(found),
            next_step="export again with this model",
        )
    return reference_module(model, found[entry])
