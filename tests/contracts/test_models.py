"""Every model of the registry keeps the contract that training, export and checks rely on."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from safetensors.torch import load_model, save_model
from torch import Tensor, nn

from toolkit.core import registry
from toolkit.core.entry import Autoregressive, Entry, Input
from toolkit.runtime.limits import UNITS

FAMILIES = (
    "flow",
    "classifier",
    "autoregressive",
    "autoencoder",
    "segmenter",
    "sequence",
    "coordinates",
    "policy",
    "adversarial",
    "geometry",
)
NAMES = registry.models.names()
BASES = {
    "normal": torch.distributions.Normal(0.0, 1.0),
    "uniform": torch.distributions.Uniform(0.0, 1.0),
}


def of_family(*families: str) -> list[str]:
    return [name for name in NAMES if registry.models.load(name).family in families]


def small(name: str) -> nn.Module:
    """Make a model as training leaves it: initialised, every parameter away from zero."""
    torch.manual_seed(0)
    model = registry.models.load(name)()
    if hasattr(model, "initialize"):
        model.initialize(inputs(model.entries()[0])[0].value)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model.eval()


def inputs(entry: Entry | Autoregressive) -> list[Input]:
    return [entry.input, *entry.context] if isinstance(entry, Autoregressive) else [*entry.inputs]


def examples(entry: Entry | Autoregressive) -> list[Tensor]:
    return [item.value for item in inputs(entry)]


def run(model: nn.Module, entry: Entry | Autoregressive, *tensors: Tensor) -> tuple[Tensor, ...]:
    call: Callable[..., Any] = (
        getattr(model, entry.call)
        if isinstance(entry.call, str)
        else lambda *values: entry.call(model, *values)
    )
    result = call(*tensors)
    return result if isinstance(result, tuple) else (result,)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_a_module_class_with_keyword_only_defaults(name):
    model = registry.models.load(name)
    parameters = inspect.signature(model).parameters.values()
    assert issubclass(model, nn.Module)
    assert model.family in FAMILIES
    assert registry.models.summary(name)
    assert all(item.kind is item.KEYWORD_ONLY for item in parameters)
    assert all(item.default is not item.empty for item in parameters)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_every_parameter(name):
    model = small(name).train()
    outputs = [
        output for entry in model.entries() for output in run(model, entry, *examples(entry))
    ]
    sum(output.square().mean() for output in outputs if output.requires_grad).backward()
    for path, parameter in model.named_parameters():
        assert parameter.grad is not None, path
        assert parameter.grad.isfinite().all(), path
        assert parameter.grad.abs().max() > 0, path


@pytest.mark.parametrize("name", of_family("flow", "autoregressive"))
def test_training_mode_answers_as_evaluation_mode(name):
    model = small(name)
    entry = model.entries()[0]
    expected = run(model.eval(), entry, *examples(entry))
    torch.testing.assert_close(
        run(model.train(), entry, *examples(entry)), expected, rtol=0, atol=0
    )


@pytest.mark.parametrize("name", NAMES)
def test_weights_survive_a_round_trip(name, tmp_path):
    model = small(name)
    save_model(model, tmp_path / "weights.safetensors")
    torch.manual_seed(1)
    other = registry.models.load(name)().eval()
    entry = model.entries()[0]
    given = examples(entry)
    assert not torch.equal(run(other, entry, *given)[0], run(model, entry, *given)[0])
    load_model(other, tmp_path / "weights.safetensors")
    torch.testing.assert_close(run(other, entry, *given), run(model, entry, *given), rtol=0, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_entries_are_named_once_and_typed(name):
    entries = registry.models.load(name)().entries()
    assert len({entry.name for entry in entries}) == len(entries)
    for entry in entries:
        assert inputs(entry)
        for item in inputs(entry):
            assert item.value is not None
            assert "batch" in item.dims
        if isinstance(entry, Entry):
            assert entry.outputs
            assert set(entry.units) <= set(entry.outputs)
            assert set(entry.units.values()) <= set(UNITS)


@pytest.mark.parametrize("name", NAMES)
def test_entries_run_at_other_batch_sizes_and_treat_samples_alone(name):
    model = small(name).double()
    for entry in model.entries():
        whole_batch = [
            value.double() if value.is_floating_point() else value for value in examples(entry)
        ]
        axes = [item.batch_axis for item in inputs(entry)]
        size = whole_batch[0].shape[axes[0]]
        one_sample = [
            value.narrow(axis, 0, 1) for value, axis in zip(whole_batch, axes, strict=True)
        ]
        doubled_batch = [
            torch.cat([value.flip(axis), value], axis)
            for value, axis in zip(whole_batch, axes, strict=True)
        ]
        with torch.no_grad():
            whole = run(model, entry, *whole_batch)
            one = run(model, entry, *one_sample)
            more = run(model, entry, *doubled_batch)
        if isinstance(entry, Entry):
            assert len(whole) == len(entry.outputs)
        assert [len(output) for output in more] == [2 * size] * len(more)
        for output, first, doubled in zip(whole, one, more, strict=True):
            torch.testing.assert_close(first, output[:1])
            torch.testing.assert_close(doubled, torch.cat([output.flip(0), output]))


@pytest.mark.parametrize("name", of_family("flow"))
def test_flows_have_their_three_entries(name):
    entries = {entry.name: entry for entry in registry.models.load(name)().entries()}
    assert {"log_prob", "inverse", "sample"} <= set(entries)
    assert entries["log_prob"].units == {"log_prob": "nats"}
    assert list(entries["inverse"].outputs) == ["x", "log_det"]
    for direction in ("inverse", "sample"):
        (noise,) = entries[direction].inputs
        assert noise.kind == "noise"
        assert noise.law in BASES
    assert len({entries[name].inputs[0].law for name in ("inverse", "sample")}) == 1


@pytest.mark.parametrize("name", of_family("flow"))
def test_flows_invert_and_their_log_det_is_the_jacobians(name):
    model = small(name).double()
    x = inputs(model.entries()[0])[0].value[:2].double()
    with torch.no_grad():
        z, log_det = model(x)
        back, back_log_det = model.inverse(z)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-8)
    torch.testing.assert_close(back_log_det, -log_det, rtol=0, atol=1e-8)
    for sample, expected in zip(x, log_det, strict=True):
        jacobian = torch.autograd.functional.jacobian(
            lambda value: model(value[None])[0].flatten(), sample
        )
        computed = torch.linalg.slogdet(jacobian.reshape(z[0].numel(), -1)).logabsdet
        torch.testing.assert_close(expected, computed, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", of_family("flow"))
def test_flows_log_prob_is_the_bases_plus_log_det(name):
    model = small(name).double()
    entries = {entry.name: entry for entry in model.entries()}
    base = BASES[entries["inverse"].inputs[0].law]
    x = inputs(entries["log_prob"])[0].value.double()
    with torch.no_grad():
        z, log_det = model(x)
        expected = base.log_prob(z).flatten(1).sum(1) + log_det
        torch.testing.assert_close(model.log_prob(x), expected)


@pytest.mark.parametrize("name", of_family("adversarial"))
def test_what_is_generated_from_noise_can_be_judged(name):
    model = small(name)
    entries = {entry.name: entry for entry in model.entries()}
    assert {"generate", "discriminate"} <= set(entries)
    (noise,) = entries["generate"].inputs
    assert noise.kind == "noise"
    assert noise.value.shape[1:] == tuple(model.noise_shape)
    with torch.no_grad():
        (x,) = run(model, entries["generate"], noise.value)
        (judged,) = run(model, entries["discriminate"], x)
    assert x.shape == entries["discriminate"].inputs[0].shape
    assert judged.shape == (len(x),)
