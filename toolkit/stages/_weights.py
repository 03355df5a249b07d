"""Take a user's weights into a run folder, as safetensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from toolkit.core.errors import IntegrityError, UsageError
from toolkit.core.folder import RunFolder
from toolkit.core.recipe import Recipe
from toolkit.stages._model import WEIGHTS, build_model, load_weights, save_weights


def adopt_weights(recipe: Recipe, folder: RunFolder, path: Path) -> None:
    """Check that a weights file fits the recipe's model, and copy it into the run folder.

    Arguments:
        recipe: Names the model.
        folder: The run folder; `weights.safetensors` is replaced.
        path: A `.safetensors` file, or a `.pt` file with a state dictionary.

    Raises:
        UsageError: There is no such file, or it is another model's.
        IntegrityError: The file is damaged, or holds more than tensors.
    """
    model = build_model(recipe)
    if not path.is_file():
        raise UsageError(
            "there is no such weights file", where=str(path), next_step="check --weights"
        )
    if path.suffix == ".safetensors":
        load_weights(model, path)
    else:
        _load_checkpoint(model, path)
    save_weights(model, folder.path / WEIGHTS)


def _load_checkpoint(model: Any, path: Path) -> None:
    """Load a state dictionary, never code."""
    import pickle

    import torch

    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise IntegrityError(
            "the file does not hold a plain state dictionary; code in it was not run",
            where=str(path),
            next_step="save it with torch.save(model.state_dict(), path), or as safetensors",
        ) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict):
        raise UsageError(
            f"the file holds a {type(state).__name__}, not a state dictionary",
            where=str(path),
            next_step="save it with torch.save(model.state_dict(), path)",
        )
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise UsageError(
            f"the weights do not fit the model: {error}", where=str(path), next_step="check TARGET"
        ) from error
