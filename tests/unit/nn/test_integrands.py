from __future__ import annotations

import pytest
import torch

from toolkit.nn.integrands import integral, log_integrand

# Section IV of arXiv 2001.05486 gives the camel's integral in 2, 4 and 8 dimensions.
PUBLISHED = {2: 0.98166, 4: 0.96366, 8: 0.92864}


@pytest.mark.parametrize("features", PUBLISHED)
def test_the_camels_integrals_are_those_of_the_paper(features):
    assert integral("camel", features) == pytest.approx(PUBLISHED[features], abs=1e-5)


@pytest.mark.parametrize("name", ["gaussian", "camel"])
@pytest.mark.parametrize("features", [1, 2])
def test_the_closed_form_is_the_sum_over_a_grid(name, features):
    axis = (torch.arange(200, dtype=torch.float64) + 0.5) / 200
    points = torch.cartesian_prod(*[axis] * features).reshape(-1, features)
    computed = torch.exp(log_integrand(name, points)).mean().item()
    assert computed == pytest.approx(integral(name, features), abs=1e-5)


def test_far_from_every_peak_the_logarithm_stays_finite():
    corner = torch.zeros(1, 64)
    assert torch.exp(log_integrand("camel", corner)) == 0
    assert log_integrand("camel", corner).isfinite()
