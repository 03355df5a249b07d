"""Which entries a recipe gives, and which options of a sampler are refused."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from torch import nn

from toolkit.core.entry import Autoregressive
from toolkit.core.errors import ExportError, UsageError
from toolkit.core.recipe import load_recipe
from toolkit.stages._entries import entries_of, plain_entries
from toolkit.stages._model import build_model


@pytest.fixture(scope="module")
def pixelcnn() -> nn.Module:
    return build_model(load_recipe("pixelcnn", fast=True))


def sampler(model: Any) -> Autoregressive:
    return next(entry for entry in model.entries() if isinstance(entry, Autoregressive))


def test_a_sampler_becomes_an_entry_whose_input_is_noise(pixelcnn: nn.Module) -> None:
    generate, logits = plain_entries(pixelcnn, [sampler(pixelcnn)])
    assert [generate.name, logits.name] == ["sample.generate", "sample.logits"]
    assert [item.kind for item in generate.inputs] == ["noise"]
    assert [item.kind for item in logits.inputs] == ["data"]
    assert generate.call.layout == "wavefront"


def test_a_part_of_a_sampler_is_an_entry_and_its_name_stands_for_all(pixelcnn: nn.Module) -> None:
    def names(wanted: str) -> list[str]:
        recipe = load_recipe("pixelcnn", fast=True, settings=[f"export.entries={wanted}"])
        return [entry.name for entry in entries_of(pixelcnn, recipe)]

    assert names('["sample.logits"]') == ["sample.logits"]
    assert names('["sample", "log_prob"]') == ["log_prob", "sample.generate", "sample.logits"]


@pytest.mark.parametrize(
    "option",
    [
        {"channel_order": (0, 1, 2)},
        {"head": "gaussian"},
    ],
    ids=lambda option: next(iter(option)),
)
def test_an_option_that_no_schedule_heeds_is_refused(pixelcnn: nn.Module, option: dict) -> None:
    asked = dataclasses.replace(sampler(pixelcnn), **option)
    with pytest.raises(UsageError, match=next(iter(option))):
        plain_entries(pixelcnn, [asked])


def test_a_model_that_no_schedule_takes_is_told_why(pixelcnn: nn.Module) -> None:
    with pytest.raises(ExportError) as raised:
        plain_entries(nn.Linear(2, 2), [sampler(pixelcnn)])
    assert "wavefront" in raised.value.where


def test_an_entry_that_does_not_exist_names_the_nearest(pixelcnn: nn.Module) -> None:
    recipe = load_recipe("pixelcnn", fast=True, settings=['export.entries=["log_probe"]'])
    with pytest.raises(UsageError) as raised:
        entries_of(pixelcnn, recipe)
    assert "log_prob" in raised.value.next_step
