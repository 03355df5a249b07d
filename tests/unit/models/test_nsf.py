from __future__ import annotations

import pytest
import torch

import toolkit
from toolkit.core.errors import UsageError
from toolkit.core.folder import RunFolder
from toolkit.core.recipe import load_recipe
from toolkit.models.nsf import NSF, SPLINES
from toolkit.nn.spline_coupling import SplineCoupling
from toolkit.stages import train


def wild(**arguments) -> NSF:
    torch.manual_seed(0)
    model = NSF(**{"features": 3, "depth": 2, "hidden": 8, **arguments}).double()
    for part in model.modules():
        if isinstance(part, SplineCoupling):
            torch.nn.init.normal_(part.network[-1].weight)
            torch.nn.init.normal_(part.network[-1].bias)
    return model.eval()


@pytest.mark.parametrize("spline", SPLINES)
def test_bin_edges_and_bounds_invert_like_their_neighbours(spline):
    model = wild(spline=spline, bound=2.0)
    for coupling in (part for part in model.modules() if isinstance(part, SplineCoupling)):
        x = torch.zeros(1, 3, dtype=torch.float64)
        raw = coupling.network(x.index_select(1, coupling.kept))
        widths = raw.reshape(-1, coupling.spline.parameters)[0, : coupling.spline.bins]
        shares = 1e-3 + (1 - 1e-3 * len(widths)) * torch.softmax(widths, 0)
        knots = 4 * torch.cat([torch.zeros(1).double(), shares.cumsum(0)]) - 2
        edges = torch.cat([knots, knots - 1e-9, knots + 1e-9])
        x = torch.zeros(len(edges), 3, dtype=torch.float64)
        x[:, coupling.moved[0]] = edges
        y, log_det = coupling(x)
        back, back_log_det = coupling.inverse(y)
        torch.testing.assert_close(back, x, rtol=0, atol=1e-7)
        # The density of quadratic splines jumps at the bound.
        inner = edges.abs() < 2 - 1e-6
        torch.testing.assert_close(back_log_det[inner], -log_det[inner], rtol=0, atol=1e-5)
        order = edges.argsort()
        assert (y[order, coupling.moved[0]].diff() >= 0).all()


def test_an_unknown_spline_is_refused():
    with pytest.raises(UsageError, match="cubic"):
        NSF(spline="cubic")


@pytest.mark.slow
def test_the_full_size_exports(tmp_path):
    model = NSF(features=6, size="full").eval()
    assert sum(isinstance(part, SplineCoupling) for part in model.modules()) == 10
    result = toolkit.export(model, model.entries(), tmp_path)
    assert all(item.outcome.status == "ok" for item in result.values())


@pytest.mark.slow
@pytest.mark.parametrize("spline", SPLINES)
def test_the_recipe_reaches_its_nats(spline, tmp_path):
    recipe = load_recipe("nsf", settings=[f"model.spline={spline}"])
    metrics = train.run(recipe, RunFolder(tmp_path)).detail["metrics"]
    assert metrics["test_loss"] < 1.95
