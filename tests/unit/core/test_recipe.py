"""Recipes: strict tables, overrides, budgets."""

from __future__ import annotations

from pathlib import Path

import pytest

from toolkit.core.errors import UsageError
from toolkit.core.recipe import Recipe, load_recipe, parse_recipe


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[train]\nepoch = 3\n", "train.epoch"),
        ("[train]\nepochs = -1\n", "train.epochs"),
        ("fast = true\n", "fast"),
        ("train = 3\n", "train"),
        ("[train\n", "not TOML"),
    ],
)
@pytest.mark.parametrize("fast", [False, True])
def test_a_wrong_recipe_says_what_is_wrong(
    tmp_path: Path, text: str, message: str, fast: bool
) -> None:
    with pytest.raises(UsageError, match=message) as raised:
        load_recipe(written(tmp_path, text), fast=fast)
    assert raised.value.next_step


def test_a_typo_names_the_nearest_key(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as raised:
        load_recipe(written(tmp_path, "[train]\nepoch = 3\n"))
    assert "'epochs'" in raised.value.next_step


def test_settings_come_after_the_fast_ones(tmp_path: Path) -> None:
    path = written(tmp_path, '[train]\nepochs = 9\n[fast]\n"train.epochs" = 1\n')
    assert load_recipe(path).train.epochs == 9
    assert load_recipe(path, fast=True).train.epochs == 1
    assert load_recipe(path, fast=True, settings=["train.epochs=4"]).train.epochs == 4


@pytest.mark.parametrize("setting", ["train.epochs", "name.first=1"])
def test_a_setting_that_names_no_key_is_refused(tmp_path: Path, setting: str) -> None:
    with pytest.raises(UsageError, match=r"--set|does not name a key"):
        load_recipe(written(tmp_path, 'name = "mine"\n'), settings=[setting])


def test_a_model_of_the_user_is_a_recipe_of_its_own() -> None:
    recipe = load_recipe("package.module:make_flow")
    assert (recipe.name, recipe.model.name) == ("make_flow", "package.module:make_flow")


@pytest.mark.parametrize(
    ("precision", "budget"),
    [
        ("fp32", {"nats": 1.0}),
        ("exported", {"nats": 1.0}),
        ("fp16", {"nats": 2.0}),
        ("int8", {"nats": 1.0}),
    ],
)
def test_a_precision_has_its_own_budget_or_the_recipes(
    precision: str, budget: dict[str, float]
) -> None:
    recipe = Recipe.model_validate(
        {"verify": {"budget": {"nats": 1.0}}, "optimize": {"budget": {"fp16": {"nats": 2.0}}}}
    )
    assert recipe.budget_of(precision) == budget


def test_an_opset_that_the_exporter_does_not_write_is_refused():
    with pytest.raises(UsageError, match=r"export\.opset"):
        parse_recipe({"export": {"opset": 99}}, where="here")


def test_the_device_is_settled_where_a_recipe_is_read():
    assert parse_recipe({"device": "auto", "providers": ["cuda"]}, where="here").device == "cuda"
    with pytest.raises(UsageError, match="no device 'gpu'"):
        parse_recipe({"device": "gpu"}, where="here")
