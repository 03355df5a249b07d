from __future__ import annotations

import sys

import numpy as np
import pytest
from PIL import Image

from toolkit.core.errors import MissingError, UsageError
from toolkit.core.folder import RunFolder
from toolkit.core.places import fingerprint, loader
from toolkit.core.recipe import parse_recipe
from toolkit.stages._model import load_data
from toolkit.stages._record import stage_key


def recipe(name: str, **arguments):
    table = {"model": {"name": "autoencoder"}, "data": {"name": name, **arguments}}
    return parse_recipe(table, where="test")


@pytest.fixture
def folder(tmp_path):
    for index in range(10):
        array = np.full((8, 8), 10 * index, np.uint8)
        Image.fromarray(array).save(tmp_path / f"{index}.png")
    return tmp_path


def test_only_the_two_schemes_are_places():
    assert loader("folder:x") is not None
    assert loader("hf:owner/name") is not None
    assert loader("digits") is None
    assert loader("package.module:factory") is None
    assert loader("folder:") is None


def test_a_recipe_reads_a_folder(folder):
    data = load_data(recipe(f"folder:{folder}", test=3))
    assert (len(data.train["x"]), len(data.test["x"])) == (7, 3)


def test_a_typo_in_an_option_is_an_error_of_use(folder):
    with pytest.raises(UsageError, match="sise"):
        load_data(recipe(f"folder:{folder}", sise=3))


def test_another_file_makes_the_stages_that_read_it_stale(folder, tmp_path_factory):
    run = RunFolder(tmp_path_factory.mktemp("run"))
    given = recipe(f"folder:{folder}")
    before = {name: stage_key(name, given, run) for name in ("train", "export", "build")}
    assert {name: stage_key(name, given, run) for name in before} == before
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / "new.png")
    after = {name: stage_key(name, given, run) for name in before}
    assert after["train"] != before["train"]
    assert after["export"] != before["export"]
    assert after["build"] == before["build"]


def test_places_that_are_not_local_have_the_fingerprint_of_their_name():
    assert fingerprint("hf:owner/name") == fingerprint("hf:owner/name")
    assert fingerprint("hf:owner/name") != fingerprint("hf:owner/other")


def test_without_the_package_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingError, match="datasets") as caught:
        load_data(recipe("hf:owner/name"))
    assert caught.value.exit_code == 4
    assert caught.value.next_step == "pip install 'toolkit[hf]'"
