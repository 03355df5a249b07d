"""The methods that i-flow is compared with are right themselves, and count what they evaluate."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from toolkit.core.recipe import load_recipe

BENCH = Path(__file__).resolve().parents[3] / "bench"


@pytest.fixture
def integrate(monkeypatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", [str(BENCH), *sys.path])
    module = importlib.import_module("integrate")
    monkeypatch.setattr(module, "EVALUATIONS", 2**14)
    return module


@pytest.mark.parametrize("method", ["by_vegas", "by_plain"])
def test_estimates_hold_the_closed_form(integrate, method):
    if method == "by_vegas":
        pytest.importorskip("vegas", reason="pip install vegas")
    found = getattr(integrate, method)("camel", 2)
    assert abs(found.mean - integrate.integral("camel", 2)) < 5 * found.uncertainty
    assert 0.8 * 2**14 < found.evaluations <= 2**14
    assert found.relative == found.uncertainty / found.mean


def test_blocks_make_up_the_estimate(integrate, monkeypatch):
    monkeypatch.setattr(integrate, "BLOCK", 2**12)
    found = integrate.by_plain("gaussian", 2)
    means, deviations = np.array(found.blocks).T
    assert len(means) == 4
    assert means.mean() == pytest.approx(found.mean)
    assert np.sqrt((deviations**2).mean() / 4) == pytest.approx(found.uncertainty, rel=0.05)


def test_training_counts_whole_batches_of_every_epoch(integrate):
    recipe = load_recipe(
        "iflow", settings=["data.samples=2500", "train.batch_size=1000", "train.epochs=3"]
    )
    assert integrate.trained_on(recipe) == 6000
