"""Every adapter knows its library's models, imports nothing for others, and its entries run."""

from __future__ import annotations

import functools
import importlib
import sys

import pytest
import torch
from torch.utils._pytree import tree_leaves, tree_map

from toolkit.core.registry import adapters
from toolkit.core.require import install_line, installed

# Libraries call deprecated linear algebra.
pytestmark = pytest.mark.filterwarnings(
    r"ignore:torch\.(triangular_solve|qr|lu) is deprecated:UserWarning"
)
NAMES = adapters.names()


def usable(name):
    adapter = adapters.load(name)
    if not installed(adapter.library):
        pytest.skip(f"{adapter.library} is not installed: {install_line('flows')}")
    return adapter


def examples(name):
    found = usable(name).examples()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return {key: make() for key, make in found.items()}


def run(model, entry, values=None):
    """Return the entry's outputs by name."""
    values = [item.value for item in entry.inputs] if values is None else values
    with torch.no_grad():
        result = entry.call(model, *values)
    results = result if isinstance(result, tuple) else (result,)
    return dict(zip(entry.outputs, results, strict=True))


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
            results = run(model, entry)
            for output, result in results.items():
                assert result.isfinite().all(), (key, entry.name)
                scalar = output in ("log_prob", "log_det")
                shape = (batch,) if scalar else entries[0].inputs[0].value.shape
                assert result.shape == shape, (key, entry.name, output)
                assert entry.units.get(output) == ("nats" if scalar else None)
            for item in entry.inputs:
                assert item.dims == ("batch", *(None for _ in item.value.shape[1:]))
            assert (entry.inputs[0].kind == "noise") == (entry.name == "sample")


@pytest.mark.parametrize("name", NAMES)
def test_examples_lie_within_the_bounds_of_their_input(name):
    for key, model in examples(name).items():
        for entry in usable(name).entries(model):
            for item in entry.inputs:
                low, high = item.low, item.high
                assert low is None or item.value.min() >= low, (key, entry.name, item.name)
                assert high is None or item.value.max() <= high, (key, entry.name, item.name)


def numeric_log_det(model, entry, rows):
    """Return log|det ∂x/∂z| of the entry at one row, by central differences."""
    row = rows[0].flatten()
    shift = 1e-4 * torch.eye(len(row), dtype=row.dtype)

    def moved(step):
        points = (row + step).reshape(-1, *rows[0].shape[1:])
        given = [value.expand(len(points), *value.shape[1:]) for value in rows[1:]]
        return run(model, entry, [points, *given])["x"].flatten(1)

    return ((moved(shift) - moved(-shift)) / 2e-4).slogdet()[1].item()


@pytest.mark.parametrize("name", NAMES)
def test_the_inverses_determinant_is_that_of_its_jacobian(name):
    for key, model in examples(name).items():
        found = {entry.name: entry for entry in usable(name).entries(model.double().eval())}
        if (entry := found.get("inverse")) is None:
            continue
        # Near the middle, where a bisection between fixed ends is not saturated.
        rows = [0.3 * item.value[:1] for item in entry.inputs]
        claimed = run(model, entry, rows)["log_det"].item()
        assert claimed == pytest.approx(numeric_log_det(model, entry, rows), abs=0.05), key


@pytest.mark.parametrize("name", NAMES)
def test_every_input_matters(name):
    for key, model in examples(name).items():
        with torch.no_grad():
            for parameter in filter(torch.is_floating_point, model.parameters()):
                parameter += 0.1 * torch.randn_like(parameter)
        for entry in usable(name).entries(model.eval()):
            plain = run(model, entry)
            for position in range(len(entry.inputs)):
                moved = [item.value.clone() for item in entry.inputs]
                moved[position] = moved[position].roll(1, 0)
                changed = run(model, entry, moved)
                assert any(not torch.equal(changed[output], plain[output]) for output in plain), (
                    key,
                    entry.name,
                    position,
                )


@pytest.mark.parametrize("name", NAMES)
def test_conditional_examples_take_a_context(name):
    found = {}
    for key, model in examples(name).items():
        entries = usable(name).entries(model)
        found[key] = [item.name for item in entries[0].inputs]
        conditional = ["context" in [item.name for item in entry.inputs] for entry in entries]
        assert len(set(conditional)) == 1, key
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


def resolve(target):
    """Return what a target of a replacement names, and where it is set."""
    module, _, path = target.partition(":")
    *owners, last = path.split(".")
    place = functools.reduce(getattr, owners, importlib.import_module(module))
    return place, last, getattr(place, last)


def replacements(name):
    return usable(name).replacements()


def answering(name):
    """Return the replacements that return something; a constructor shows in its methods."""
    return [item for item in replacements(name) if not item.targets[0].endswith(".__init__")]


@torch.no_grad()
def difference(replacement, original, function):
    """Return the largest difference from the original over the examples, relative above one."""
    worst = 0.0
    for key, (arguments, keywords) in replacement.examples().items():
        if replacement.measure is not None:
            replacement.measure(*arguments, **keywords)
        truth = tree_leaves(original(*arguments, **keywords))
        found = tree_leaves(function(*arguments, **keywords))
        assert len(found) == len(truth) > 0, key
        for a, b in zip(found, truth, strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype), key
            worst = max(worst, float(((a - b).abs() / b.abs().clamp(min=1)).max()))
    return worst


@pytest.mark.parametrize("name", NAMES)
def test_what_is_replaced_exists_under_every_target(name):
    for replacement in replacements(name):
        found = [resolve(target)[2] for target in replacement.targets]
        assert all(callable(item) for item in found), replacement.targets
        assert len({id(item) for item in found}) == 1, replacement.targets


@pytest.mark.parametrize("name", NAMES)
def test_replacements_equal_what_they_stand_in_for(name):
    for replacement in answering(name):
        original = resolve(replacement.targets[0])[2]
        found = difference(replacement, original, replacement.function)
        assert found <= replacement.tolerance, replacement.targets


@pytest.mark.parametrize("name", NAMES)
def test_a_replacement_that_is_wrong_is_noticed(name):
    for replacement in answering(name):
        original = resolve(replacement.targets[0])[2]

        def wrong(*arguments, function=replacement.function, **keywords):
            return tree_map(lambda value: value * 1.01 + 1e-3, function(*arguments, **keywords))

        assert difference(replacement, original, wrong) > replacement.tolerance


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_entries_answer_the_same_with_everything_replaced(name, monkeypatch):
    for key, model in examples(name).items():
        found = replacements(name)
        entries = usable(name).entries(model.double().eval())
        plain = {entry.name: run(model, entry) for entry in entries}
        for stage in ("measure", "function"):
            with monkeypatch.context() as patch:
                for replacement in found:
                    function = getattr(replacement, stage)
                    for target in replacement.targets if function else ():
                        place, last, _ = resolve(target)
                        patch.setattr(place, last, function)
                results = {entry.name: run(model, entry) for entry in entries}
            for entry, outputs in plain.items():
                for output, value in outputs.items():
                    assert torch.allclose(results[entry][output], value, rtol=1e-3, atol=1e-3), (
                        key,
                        entry,
                        stage,
                    )
