"""A user's weights: taken as tensors, never as code, and kept by later runs."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from toolkit.core.errors import IntegrityError, UsageError
from toolkit.core.folder import RunFolder
from toolkit.core.recipe import Recipe, load_recipe
from toolkit.stages._model import build_model
from toolkit.stages._weights import adopt_weights
from toolkit.stages.pipeline import run_pipeline


@pytest.fixture
def recipe() -> Recipe:
    return load_recipe("realnvp", fast=True)


def other_weights(recipe: Recipe) -> dict[str, torch.Tensor]:
    state = build_model(recipe).state_dict()
    return {
        name: tensor + 0.01 if tensor.is_floating_point() else tensor
        for name, tensor in state.items()
    }


@pytest.mark.parametrize("suffix", ["safetensors", "pt", "ckpt"])
def test_takes_them_and_a_later_run_keeps_them(recipe: Recipe, tmp_path: Path, suffix: str) -> None:
    given, folder = other_weights(recipe), RunFolder(tmp_path / "run")
    path = tmp_path / f"w.{suffix}"
    if suffix == "safetensors":
        save_file(given, path)
    else:
        torch.save({"state_dict": given} if suffix == "ckpt" else given, path)
    adopt_weights(recipe, folder, path)
    (step,) = run_pipeline(recipe, folder, last="train")
    assert step.current
    taken = load_file(folder.path / "weights.safetensors")
    assert all(torch.equal(taken[name], tensor) for name, tensor in given.items())


class Planted:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_code_in_a_checkpoint_is_not_run(recipe: Recipe, tmp_path: Path) -> None:
    path, witness = tmp_path / "w.pt", tmp_path / "witness"
    path.write_bytes(pickle.dumps(Planted(witness)))
    with pytest.raises(IntegrityError, match="was not run"):
        adopt_weights(recipe, RunFolder(tmp_path / "run"), path)
    assert not witness.exists()
    pickle.loads(path.read_bytes())  # noqa: S301  (the plant does grow where it may)
    assert witness.exists()


def test_another_models_weights_are_refused(recipe: Recipe, tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, tmp_path / "w.pt")
    with pytest.raises(UsageError, match="do not fit"):
        adopt_weights(recipe, RunFolder(tmp_path / "run"), tmp_path / "w.pt")
    assert not (tmp_path / "run" / "weights.safetensors").exists()
