from __future__ import annotations

import pytest
import torch

from toolkit.core.errors import UsageError
from toolkit.core.folder import RunFolder
from toolkit.core.recipe import load_recipe
from toolkit.data.digits import dataset
from toolkit.models.beta_vae import BetaVAE
from toolkit.objectives.elbo import objective
from toolkit.stages import train


@pytest.fixture(scope="module")
def trained() -> dict[float, dict[str, float]]:
    """Return what is reached on the digits by beta."""
    x, reached = dataset().train["x"], {}
    for beta in (0.1, 1.0, 10.0):
        torch.manual_seed(0)
        model = BetaVAE(beta=beta, shape=(1, 8, 8), widths=(8, 16), features=32)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        for _ in range(8):
            for batch in x.split(128):
                optimizer.zero_grad()
                objective(model, {"x": batch})["loss"].backward()
                optimizer.step()
        with torch.no_grad():
            reached[beta] = {k: float(v) for k, v in objective(model, {"x": x}).items()}
    return reached


def test_beta_trades_reconstruction_for_divergence(trained):
    divergences = [trained[beta]["kl"] for beta in sorted(trained)]
    likelihoods = [trained[beta]["log_likelihood"] for beta in sorted(trained)]
    assert divergences == sorted(divergences, reverse=True)
    assert likelihoods == sorted(likelihoods, reverse=True)
    assert divergences[0] > divergences[-1] + 3
    assert likelihoods[0] > likelihoods[-1] + 2


def test_the_full_size_is_the_papers():
    model = BetaVAE(size="full")
    assert model.encode(torch.zeros(1, 3, 64, 64))[0].shape == (1, 32)
    assert model.decode(torch.zeros(1, 32)).shape == (1, 3, 64, 64)
    assert model.encoder[-2].in_features == 1024


@pytest.mark.parametrize("arguments", [{"beta": -1}, {"shape": (1, 6, 8)}, {"likelihood": "x"}])
def test_arguments_out_of_range_are_refused(arguments):
    with pytest.raises(UsageError):
        BetaVAE(**arguments)


@pytest.mark.slow
def test_the_recipe_keeps_a_cheap_code(tmp_path):
    metrics = train.run(load_recipe("beta_vae"), RunFolder(tmp_path)).detail["metrics"]
    assert metrics["elbo"] > -64
    assert 3 < metrics["kl"] < 8
