from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from toolkit.core.errors import UsageError
from toolkit.core.recipe import parse_recipe
from toolkit.stages._model import load_data

datasets = pytest.importorskip("datasets", reason="needs the package: pip install 'toolkit[hf]'")


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def load(name: str, **arguments):
    table = {"model": {"name": "autoencoder"}, "data": {"name": name, **arguments}}
    return load_data(parse_recipe(table, where="test"))


def split(count: int, seed: int) -> tuple[np.ndarray, object]:
    arrays = np.random.default_rng(seed).integers(0, 256, (count, 5, 6), dtype=np.uint8)
    files = []
    for array in arrays:
        Image.fromarray(array).save(buffer := io.BytesIO(), format="png")
        files.append({"bytes": buffer.getvalue(), "path": None})
    features = datasets.Features(
        {"picture": datasets.Image(), "kind": datasets.ClassLabel(names=["a", "b"])}
    )
    table = {"picture": files, "kind": [index % 2 for index in range(count)]}
    return arrays, datasets.Dataset.from_dict(table, features=features)


@pytest.fixture
def saved(tmp_path):
    arrays, train = split(6, 0)
    datasets.DatasetDict(train=train, test=split(3, 1)[1]).save_to_disk(tmp_path / "saved")
    return arrays, tmp_path / "saved"


def test_a_data_set_on_disk_is_read_as_it_was_written(saved):
    arrays, place = saved
    data = load(f"hf:{place}")
    assert np.array_equal((data.train["x"] * 255).round().numpy()[:, 0], arrays)
    assert data.train["label"].tolist() == [0, 1, 0, 1, 0, 1]
    assert data.test["x"].shape == (3, 1, 5, 6)


def test_parquet_files_by_owner_and_name_are_read(tmp_path, monkeypatch):
    folder = tmp_path / "owner" / "name"
    folder.mkdir(parents=True)
    _, train = split(10, 0)
    train.to_parquet(folder / "train-00000-of-00001.parquet")
    monkeypatch.chdir(tmp_path)
    data = load("hf:owner/name", test=2, size=4)
    assert data.train["x"].shape == (8, 1, 4, 4)
    assert torch.isfinite(data.train["x"]).all()
    assert len(data.test["label"]) == 2


@pytest.mark.parametrize("arguments", [{"image": "photo"}, {"label": "sort"}, {"size": -1}])
def test_wrong_columns_and_options_are_refused(saved, arguments):
    with pytest.raises(UsageError):
        load(f"hf:{saved[1]}", **arguments)


def test_a_data_set_that_is_not_there_says_so():
    with pytest.raises(UsageError, match="cannot be loaded"):
        load("hf:owner/there-is-none")
