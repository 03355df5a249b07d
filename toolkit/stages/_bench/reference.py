"""The eager module of a run's entry, for the processes that time or check it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    # Asked for by its name, an entry that is no sampler's waits for no sampler to be derived.
    asked = table.model_copy(
        update={"export": table.export.model_copy(update={"entries": [entry]})}
    )
    found = next(item for item in entries_of(model, asked) if item.name == entry)
    return reference_module(model, found)
