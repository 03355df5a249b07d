from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import toolkit
from toolkit.core.errors import UsageError
from toolkit.models.iflow import SPLINES, IFlow
from toolkit.nn.spline_coupling import SplineCoupling

BENCH = Path(__file__).resolve().parents[3] / "bench"


def wild(**arguments) -> IFlow:
    torch.manual_seed(0)
    model = IFlow(**{"hidden": 8, **arguments})
    for part in model.modules():
        if isinstance(part, SplineCoupling):
            torch.nn.init.normal_(part.network[-1].weight, std=0.5)
            torch.nn.init.normal_(part.network[-1].bias, std=0.5)
    return model.eval()


@pytest.mark.parametrize("spline", ["linear", "quadratic"])
def test_a_fresh_model_is_uniform(spline):
    x = torch.rand(64, 4)
    torch.testing.assert_close(IFlow(spline=spline).log_prob(x), torch.zeros(64), rtol=0, atol=1e-4)


@pytest.mark.parametrize("features", [2, 3, 4, 8])
def test_the_couplings_let_every_feature_reach_every_other(features):
    model = wild(features=features).double()
    x = torch.rand(64, features, dtype=torch.float64)
    jacobian = torch.func.vmap(torch.func.jacrev(lambda v: model(v[None])[0][0]))(x)
    assert (jacobian.abs().amax(0) > 0).all()


@pytest.mark.parametrize("features", [2, 4, 8, 16])
def test_couplings_are_twice_the_binary_digits(features):
    assert len(IFlow(features=features).transform) == 2 * np.log2(features)


@pytest.mark.parametrize("spline", SPLINES)
def test_samples_and_corners_stay_in_the_cube(spline):
    model = wild(spline=spline)
    noise = torch.cat([torch.zeros(1, 4), torch.ones(1, 4), torch.rand(64, 4)])
    x, log_det = model.inverse(noise)
    assert x.min() >= 0
    assert x.max() <= 1
    assert log_det.isfinite().all()


def test_weights_are_integrand_over_density():
    model = wild().double()
    noise = torch.rand(64, 4, dtype=torch.float64)
    x = model.sample(noise)
    expected = torch.exp(model.log_integrand(x) - model.log_prob(x))
    torch.testing.assert_close(model.integrate(noise), expected)


@pytest.mark.slow
def test_the_exported_graphs_weights_are_those_of_its_own_samples(tmp_path):
    model = wild(features=2, layers=1, bins=4)
    entries = [entry for entry in model.entries() if entry.name in ("inverse", "integrate")]
    result = toolkit.export(model, entries, tmp_path)
    assert all(item.outcome.status == "ok" for item in result.values())
    session = toolkit.load(tmp_path)
    noise = np.random.default_rng(0).random((64, 2), dtype=np.float32)
    x, log_det = session.inverse(z=noise)
    peaks = [np.exp(-np.square(x - centre).sum(1) / 0.04) for centre in (1 / 3, 2 / 3)]
    integrand = sum(peaks) / 2 / (0.2 * np.sqrt(np.pi)) ** 2
    weight = session.integrate(noise=noise)
    np.testing.assert_allclose(weight, integrand * np.exp(log_det), rtol=1e-4)


@pytest.mark.parametrize(
    "arguments", [{"features": 1}, {"integrand": "cosine"}, {"spline": "cubic"}]
)
def test_arguments_out_of_range_say_what_is_in_range(arguments):
    with pytest.raises(UsageError, match="out of range"):
        IFlow(**arguments)


@pytest.mark.slow
@pytest.mark.parametrize("features", [4, 8])
def test_on_the_camel_it_beats_vegas_and_plain_monte_carlo(features, tmp_path, monkeypatch):
    pytest.importorskip("vegas", reason="pip install vegas")
    monkeypatch.setattr(sys, "path", [str(BENCH), *sys.path])
    integrate = importlib.import_module("integrate")
    found = integrate.estimates("camel", features, tmp_path)
    exact = integrate.integral("camel", features)
    flow = found["i-flow"]
    assert flow.evaluations <= integrate.EVALUATIONS
    assert abs(flow.mean - exact) < 5 * flow.uncertainty
    assert flow.relative < found["vegas"].relative
    assert flow.relative < found["plain"].relative
