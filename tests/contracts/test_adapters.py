"""Every adapter knows its library's models, imports nothing for others, and its entries run."""

from __future__ import annotations

import sys

import pytest
import torch

from toolkit.core.registry import adapters
from toolkit.core.require import install_line, installed

pytestmark = pytest.mark.filterwarnings("ignore:torch.triangular_solve is deprecated")
NAMES = adapters.names()


def usable(name):
    adapter = adapters.load(name)
    if not installed(adapter.library):
        pytest.skip(f"{adapter.library} is not installed: {install_line('flows')}")
    return adapter


def examples(name):
    return {key: make() for key, make in usable(name).examples().items()}


def run(model, entry):
    with torch.no_grad():
        return entry.call(model, *(item.value for item in entry.inputs))


def state(model):
    return {
        "tensors": {name: value.clone() for name, value in model.state_dict().items()},
        "training": [module.training for module in model.modules()],
        "random": torch.get_rng_state(),
    }


@pytest.mark.parametrize("name", NAMES)
def test_leaves_other_models_alone_without_importing_its_library(name, monkeypatch):
    adapter = adapters.load(name)
    monkeypatch.setitem(sys.modules, adapter.library, None)
    assert not adapter.detects(torch.nn.Linear(2, 2))
    assert not adapter.detects(object())


@pytest.mark.parametrize("name", NAMES)
def test_knows_its_own_models_and_no_other_adapters(name):
    for key, model in examples(name).items():
        assert [other for other, item in adapters.items() if item.detects(model)] == [name], key


@pytest.mark.parametrize("name", NAMES)
def test_a_class_of_the_user_that_inherits_is_known_and_its_parts_are_not(name):
    for model in examples(name).values():
        heir = type("Mine", (type(model),), {"__module__": "mine"})
        model.__class__ = heir
        assert adapters.load(name).detects(model)
        assert not any(adapters.load(name).detects(part) for part in model.children())


@pytest.mark.parametrize("name", NAMES)
def test_entries_run_and_give_a_row_per_sample(name):
    for key, model in examples(name).items():
        entries = usable(name).entries(model.eval())
        assert next(iter(entries)).name == "log_prob", key
        for entry in entries:
            batch = len(entry.inputs[0].value)
            result = run(model, entry)
            assert result.isfinite().all(), (key, entry.name)
            assert len(result) == batch, (key, entry.name)
            for item in entry.inputs:
                assert item.dims == ("batch", *(None for _ in item.value.shape[1:]))
            if entry.name == "log_prob":
                assert result.shape == (batch,), key
                assert entry.units == {"log_prob": "nats"}
            else:
                assert result.shape == entries[0].inputs[0].value.shape, key
                assert entry.inputs[0].kind == "noise"


@pytest.mark.parametrize("name", NAMES)
def test_every_input_matters(name):
    for key, model in examples(name).items():
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
        for entry in usable(name).entries(model.eval()):
            plain = run(model, entry)
            for position in range(len(entry.inputs)):
                moved = [item.value.clone() for item in entry.inputs]
                moved[position] = moved[position] * 0.9
                with torch.no_grad():
                    changed = entry.call(model, *moved)
                assert not torch.equal(changed, plain), (key, entry.name, position)


@pytest.mark.parametrize("name", NAMES)
def test_conditional_examples_take_a_context(name):
    found = {}
    for key, model in examples(name).items():
        entries = usable(name).entries(model)
        found[key] = [item.name for item in entries[0].inputs]
        assert all((len(e.inputs) == 2) == (len(found[key]) == 2) for e in entries)
    assert ["x", "context"] in found.values()
    assert ["x"] in found.values()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_making_entries_leaves_the_model_and_the_random_state(name, training):
    for key, model in examples(name).items():
        model.train(training)
        before = state(model)
        first, second = (usable(name).entries(model) for _ in range(2))
        after = state(model)
        assert after["training"] == before["training"], key
        assert torch.equal(after["random"], before["random"]), key
        for tensor, value in before["tensors"].items():
            assert torch.equal(after["tensors"][tensor], value), (key, tensor)
        for one, other in zip(first, second, strict=True):
            for a, b in zip(one.inputs, other.inputs, strict=True):
                assert torch.equal(a.value, b.value), (key, one.name)
