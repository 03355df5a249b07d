"""Every data set of the registry is embedded, finite, split and repeatable."""

from __future__ import annotations

import inspect

import pytest
import torch

from toolkit.core import registry
from toolkit.core.protocols import Data

NAMES = registry.datasets.names()


@pytest.fixture(scope="module")
def data() -> dict[str, Data]:
    return {name: registry.datasets.load(name)() for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_arguments_are_keyword_only_with_defaults(name):
    parameters = inspect.signature(registry.datasets.load(name)).parameters.values()
    assert registry.datasets.summary(name)
    assert all(item.kind is item.KEYWORD_ONLY for item in parameters)
    assert all(item.default is not item.empty for item in parameters)


@pytest.mark.parametrize("name", NAMES)
def test_both_parts_hold_finite_tensors_of_equal_length(name, data):
    one = data[name]
    assert set(one.train) == set(one.test)
    for part in (one.train, one.test):
        assert {len(tensor) for tensor in part.values()} == {len(part["x"])}
        assert part["x"].dtype in (torch.float32, torch.int64)
        assert all(tensor.isfinite().all() for tensor in part.values())
        assert len(part["x"]) > 0
    assert one.train["x"].shape[1:] == one.test["x"].shape[1:]


@pytest.mark.parametrize("name", NAMES)
def test_no_sample_is_in_both_parts(name, data):
    def rows(part: str) -> set[bytes]:
        return {row.numpy().tobytes() for row in getattr(data[name], part)["x"]}

    assert not rows("train") & rows("test")


@pytest.mark.parametrize("name", NAMES)
def test_loading_again_gives_the_same(name, data):
    torch.manual_seed(123)
    again = registry.datasets.load(name)()
    for part in ("train", "test"):
        for key, tensor in getattr(again, part).items():
            assert torch.equal(tensor, getattr(data[name], part)[key])


@pytest.mark.parametrize("name", NAMES)
def test_another_seed_gives_another_split(name, data):
    other = registry.datasets.load(name)(seed=1)
    assert not torch.equal(other.test["x"], data[name].test["x"])


@pytest.mark.parametrize("name", NAMES)
def test_loading_leaves_the_random_state_alone(name):
    state = torch.random.get_rng_state()
    registry.datasets.load(name)()
    assert torch.equal(torch.random.get_rng_state(), state)
