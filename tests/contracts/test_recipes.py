"""Every shipped recipe parses strictly, names what exists, and trains."""

from __future__ import annotations

import copy
import math
import tomllib

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from toolkit.capture.module import EntryModule, as_tuple, reference_module
from toolkit.core import registry
from toolkit.core.entry import Entry
from toolkit.core.errors import UsageError
from toolkit.core.folder import RunFolder
from toolkit.core.recipe import Recipe, load_recipe, parse_recipe, recipe_names, recipes_root
from toolkit.stages import train
from toolkit.stages._entries import entries_of
from toolkit.stages._model import build_model, load_data, load_model

SECTIONS = ("model", "data", "train", "export", "optimize", "build", "verify", "bench", "fast")


def table(name: str) -> dict:
    return tomllib.loads((recipes_root() / f"{name}.toml").read_text())


@pytest.mark.parametrize("name", recipe_names())
def test_it_parses_with_every_section(name):
    assert set(SECTIONS) <= set(table(name))
    assert load_recipe(name).name == name


@pytest.mark.parametrize("name", recipe_names())
def test_a_typo_in_any_section_is_an_error_that_names_it(name):
    for section in set(SECTIONS) - {"model", "data", "fast"}:
        broken = table(name)
        broken[section]["batchsize"] = 1
        with pytest.raises(UsageError, match=f"{section}.batchsize"):
            parse_recipe(broken, where=name)


@pytest.mark.parametrize("name", recipe_names())
def test_its_model_data_and_objective_exist(name):
    recipe = load_recipe(name)
    model, data = build_model(recipe), load_data(recipe)
    assert data is not None
    assert callable(registry.objectives.load(recipe.train.objective))
    example = model.entries()[0].inputs[0]
    assert example.shape[1:] == tuple(data.train["x"].shape[1:])


@pytest.mark.parametrize("name", recipe_names())
def test_its_budgets_are_in_units_of_its_outputs(name):
    recipe = load_recipe(name)
    units = {
        entry.units.get(output, "absolute")
        for entry in build_model(recipe).entries()
        if isinstance(entry, Entry)
        for output in entry.outputs
    }
    for variant, budget in recipe.optimize.budget.items():
        assert variant in recipe.optimize.variants
        assert set(budget) <= units


@pytest.mark.parametrize("name", recipe_names())
def test_fast_is_smaller_and_changes_the_key_it_names(name):
    fast, full = load_recipe(name, fast=True), load_recipe(name)
    assert fast.train.epochs < full.train.epochs
    for key, value in full.fast.items():
        section, _, field = key.partition(".")
        assert getattr(getattr(fast, section), field) == value


class OneDevice(TorchDispatchMode):
    """Refuse operators whose tensors, scalars apart, lie on more than one device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        devices = {tensor.device.type for tensor in tensors if tensor.dim()}
        assert len(devices) < 2, f"{func} mixes {devices}"
        # The meta device has no numbers to compare.
        return func is torch.ops.aten.equal.default or func(*args, **(kwargs or {}))


def on_meta(module: torch.nn.Module, inputs: list[torch.Tensor]) -> set[str]:
    """Return where the outputs lie; `meta` stands for a GPU: it mixes with nothing either."""
    with torch.no_grad(), OneDevice():
        outputs = module.to("meta")(*(value.to("meta") for value in inputs))
    return {value.device.type for value in as_tuple(outputs)}


@pytest.mark.parametrize("name", recipe_names())
def test_every_entry_runs_wholly_on_another_device(name):
    recipe = load_recipe(name, fast=True)
    model = build_model(recipe)
    for entry in entries_of(model, recipe):
        module = copy.deepcopy(reference_module(model, entry))
        assert on_meta(module, [item.value for item in entry.inputs]) == {"meta"}, entry.name


def test_a_tensor_left_on_the_processor_is_found():
    left = EntryModule(torch.nn.Identity(), lambda _, x: x + torch.arange(3))
    with pytest.raises(AssertionError, match="mixes"):
        on_meta(left, [torch.ones(3)])


@pytest.mark.parametrize("name", recipe_names())
def test_it_trains_two_steps_in_its_fast_setting(name, tmp_path):
    recipe = two_steps(load_recipe(name, fast=True))
    folder = RunFolder(tmp_path / name)
    outcome = train.run(recipe, folder)
    assert outcome.status == "ok"
    assert all(math.isfinite(value) for value in outcome.detail["metrics"].values())
    assert all((folder.path / file).is_file() for file in outcome.detail["files"])
    assert not load_model(recipe, folder).training


def two_steps(recipe: Recipe) -> Recipe:
    """Return the recipe with one epoch of two batches."""
    data = load_data(recipe)
    assert data is not None
    size = len(data.train["x"]) // 2
    section = recipe.train.model_copy(update={"epochs": 1, "batch_size": size})
    return recipe.model_copy(update={"train": section})
