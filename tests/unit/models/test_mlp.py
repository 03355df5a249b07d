from __future__ import annotations

import pytest
import torch
from torch.distributions import Bernoulli, Categorical

from toolkit.core import registry
from toolkit.core.folder import RunFolder
from toolkit.core.recipe import load_recipe
from toolkit.models.mlp import MLP
from toolkit.stages import train


def batch() -> dict[str, torch.Tensor]:
    draws = torch.Generator().manual_seed(0)
    return {
        "x": torch.rand(16, 1, 8, 8, generator=draws),
        "label": torch.randint(10, (16,), generator=draws),
    }


def test_cross_entropy_of_the_softmax_head_is_the_categoricals_negative_log_likelihood():
    model, samples = MLP(), batch()
    _, probability = model.predict(samples["x"])
    expected = -Categorical(probs=probability).log_prob(samples["label"]).mean()
    loss = registry.objectives.load("supervised")(model, samples)["loss"]
    torch.testing.assert_close(loss, expected)


def test_cross_entropy_of_the_sigmoid_head_is_the_bernoullis_negative_log_likelihood():
    model, samples = MLP(head="sigmoid"), batch()
    _, probability = model.predict(samples["x"])
    present = torch.eye(10)[samples["label"]]
    expected = -Bernoulli(probs=probability).log_prob(present).sum(1).mean()
    loss = registry.objectives.load("bernoulli")(model, samples)["loss"]
    torch.testing.assert_close(loss, expected)


def test_a_softmax_shares_one_and_a_sigmoid_does_not():
    x = batch()["x"]
    softmax, sigmoid = MLP().predict(x)[1].sum(1), MLP(head="sigmoid").predict(x)[1].sum(1)
    torch.testing.assert_close(softmax, torch.ones(16))
    assert (sigmoid > 2).all()


@pytest.mark.parametrize("hidden", [(5,), (7, 6, 5)])
def test_hidden_layers_are_as_many_and_as_wide_as_asked(hidden):
    linear = [part for part in MLP(hidden=hidden).modules() if isinstance(part, torch.nn.Linear)]
    assert [part.out_features for part in linear] == [*hidden, 10]


def test_full_has_the_twelve_million_weights_of_the_paper():
    with torch.device("meta"):
        model = MLP(size="full")
    assert sum(item.numel() for item in model.parameters() if item.dim() == 2) == 12_107_500


@pytest.mark.slow
def test_the_recipe_reaches_its_accuracy(tmp_path):
    metrics = train.run(load_recipe("mlp"), RunFolder(tmp_path)).detail["metrics"]
    assert metrics["accuracy"] > 94
