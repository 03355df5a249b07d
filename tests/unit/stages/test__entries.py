"""Which entries a recipe gives, and which options of a sampler are refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from toolkit.core.entry import Autoregressive, Entry, Input
from toolkit.core.errors import ExportError, UsageError
from toolkit.core.recipe import load_recipe
from toolkit.stages._entries import entries_of, plain_entries
from toolkit.stages._model import build_model
from toolkit.stages.export import export


@pytest.fixture(scope="module")
def pixelcnn() -> nn.Module:
    return build_model(load_recipe("pixelcnn", fast=True))


def sampler(model: Any) -> Autoregressive:
    return next(entry for entry in model.entries() if isinstance(entry, Autoregressive))


def test_a_sampler_becomes_an_entry_whose_input_is_noise(pixelcnn: nn.Module) -> None:
    generate, step, logits = plain_entries(pixelcnn, [sampler(pixelcnn)])
    names = [generate.name, step.name, logits.name]
    assert names == ["sample.generate", "sample.step", "sample.logits"]
    assert [item.kind for item in generate.inputs] == ["noise"]
    assert [item.kind for item in logits.inputs] == ["data"]
    assert generate.call.layout == "wavefront"


def test_a_part_of_a_sampler_is_an_entry_and_its_name_stands_for_all(pixelcnn: nn.Module) -> None:
    def names(wanted: str) -> list[str]:
        recipe = load_recipe("pixelcnn", fast=True, settings=[f"export.entries={wanted}"])
        return [entry.name for entry in entries_of(pixelcnn, recipe)]

    assert names('["sample.logits"]') == ["sample.logits"]
    assert names('["sample", "log_prob"]') == [
        "log_prob",
        "sample.generate",
        "sample.step",
        "sample.logits",
    ]


def test_colours_that_a_picture_has_not_are_refused(pixelcnn: nn.Module) -> None:
    with pytest.raises(UsageError, match="channel_order"):
        dataclasses.replace(sampler(pixelcnn), channel_order=(0, 1, 2))


def test_a_head_that_does_not_exist_is_refused(pixelcnn: nn.Module) -> None:
    with pytest.raises(UsageError, match="no law is called 'poisson'"):
        dataclasses.replace(sampler(pixelcnn), head="poisson")


def test_a_model_that_no_schedule_takes_is_told_why(pixelcnn: nn.Module) -> None:
    with pytest.raises(ExportError) as raised:
        plain_entries(nn.Linear(2, 2), [sampler(pixelcnn)])
    assert "wavefront" in raised.value.where


class Running(nn.Module):
    """A causal network with a table of positions, a running mean and a token's law."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.place = nn.Embedding(5, 6), nn.Embedding(7, 6)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Any, label: Any) -> Any:
        places = torch.arange(x.shape[1])
        h = self.token(x) + self.place(places) * label.unsqueeze(1)
        return 4 * self.head(torch.tanh(h.cumsum(1) / (places + 1).unsqueeze(1)))


def test_the_three_entries_of_a_users_network_are_exported_and_judged(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = Input("x", torch.zeros(2, 7, dtype=torch.int64), ("batch", "time"), high=4)
    label = Input("label", torch.randn(2, 6), ("batch", None), kind="context")
    asked = Autoregressive(
        "sample", "forward", x, "time", 5, 2, predicts="next", context=[label], prefix=True
    )
    results = export(Running().eval(), [asked], tmp_path / "run")
    assert list(results) == ["sample.generate", "sample.step", "sample.logits"]
    assert {
        name: item.outcome.reason for name, item in results.items() if item.outcome.reason
    } == {}
    assert results["sample.generate"].detail["schedule"] == "scan"
    assert results["sample.generate"].signature.ranges["time"] == (1, 3, 7, 1)
    kinds = [spec.kind for spec in results["sample.step"].signature.inputs]
    assert kinds[:3] == ["data", "data", "context"]
    assert set(kinds[3:]) == {"state"}


def test_an_entry_that_does_not_exist_names_the_nearest(pixelcnn: nn.Module) -> None:
    recipe = load_recipe("pixelcnn", fast=True, settings=['export.entries=["log_probe"]'])
    with pytest.raises(UsageError) as raised:
        entries_of(pixelcnn, recipe)
    assert "log_prob" in raised.value.next_step


def given(*inputs: str, entries: str = "[]") -> Any:
    specs = ", ".join(f"'{spec}'" for spec in inputs)
    settings = [f"export.inputs=[{specs}]", f"export.entries={entries}"]
    return load_recipe("pixelcnn", fast=True, settings=settings)


def test_a_scalar_can_be_given_as_text() -> None:
    (entry,) = entries_of(nn.Identity(), given("x:float32[batch,4]", "t:float32[]"))
    assert entry.inputs[1].value.shape == ()


@pytest.mark.parametrize("word", ["nn", "Tensor", "float33"])
def test_a_word_that_is_no_element_type_is_refused(word: str) -> None:
    with pytest.raises(UsageError, match=f"no element type is called '{word}'"):
        entries_of(nn.Identity(), given(f"x:{word}[batch,3]"))


def test_two_entries_of_one_name_are_refused(pixelcnn: nn.Module, tmp_path: Path) -> None:
    x = Input("x", torch.zeros(2, 3), dims=("batch", None))
    with pytest.raises(UsageError, match="two entries are called 'forward'"):
        export(nn.Identity(), [Entry("forward", inputs=[x])] * 2, tmp_path / "run")
    with pytest.raises(UsageError, match="two entries are called 'forward'"):
        entries_of(nn.Identity(), given("x:float32[3]", entries='["forward", "forward"]'))
    taken = Entry("sample.logits", inputs=[x])
    with pytest.raises(UsageError, match=r"two entries are called 'sample\.logits'"):
        plain_entries(pixelcnn, [taken, sampler(pixelcnn)])


class Beside(nn.Module):
    def forward(self, *inputs: Any) -> Any:
        a, c, e, t, x = inputs
        x = torch.cat([x @ a, c], 1)
        return torch.tanh(x * torch.exp(-t)) + e.sum(1)[0]


@pytest.mark.parametrize("static", [False, True])
def test_inputs_that_do_not_follow_the_batch_are_exported_and_judged(static, tmp_path) -> None:
    torch.manual_seed(0)
    inputs = [
        Input("a", torch.randn(4, 4)),
        Input("c", torch.zeros(8, 0), dims=("batch", None)),
        Input("e", torch.arange(18).reshape(2, 9), dims=(None, "edges"), low=0, high=20),
        Input("t", torch.tensor(0.7)),
        Input("x", torch.randn(8, 4), dims=("batch", None)),
    ]
    entry = Entry("forward", inputs=inputs)
    result = export(Beside(), [entry], tmp_path / "run", static=static)["forward"]
    assert result.outcome.reason == ""
    assert [spec.name for spec in result.signature.batched] == ["c", "x"]
