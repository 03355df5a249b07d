"""Take a user's weights into a run folder, as safetensors."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.core.errors import IntegrityError, UsageError
from toolkit.core.folder import RunFolder
from toolkit.core.outcome import Outcome
from toolkit.core.recipe import Recipe
from toolkit.stages._model import WEIGHTS, build_model, load_weights, save_weights
from toolkit.stages._record import record_stage

if TYPE_CHECKING:
    from torch import nn


def adopt_weights(recipe: Recipe, folder: RunFolder, path: Path) -> None:
    """Check that a weights file fits the recipe's model; let it stand for the train stage.

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
    with folder.locked():
        save_weights(model, folder.path / WEIGHTS)
        record_stage(
            folder, "train", recipe, Outcome("ok", f"taken from {path.name}", _taken(model))
        )


def _taken(model: nn.Module) -> dict[str, Any]:
    """Return the result that training would have left."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {"files": [WEIGHTS], "epochs": 0, "metrics": {}, "parameters": parameters}


def _load_checkpoint(model: Any, path: Path) -> None:
    """Load a state dictionary, never code."""
    import pickle

    import torch

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
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
