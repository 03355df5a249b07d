from __future__ import annotations

import pytest
import torch
from torch import Tensor

from toolkit.core import registry
from toolkit.core.folder import RunFolder
from toolkit.core.recipe import load_recipe
from toolkit.models.perceptron import Perceptron
from toolkit.stages import train

MARGIN = 0.3


def separable(count: int = 200) -> tuple[Tensor, Tensor, float, float]:
    """Return samples, labels, the margin of some unit-norm weights, and the largest norm."""
    draws = torch.Generator().manual_seed(0)
    weight = torch.randn(3, 5, generator=draws)
    weight = weight / weight.norm()
    x = torch.randn(50 * count, 4, generator=draws)
    scores = torch.cat([x, torch.ones(len(x), 1)], 1) @ weight.T
    best = scores.topk(2).values
    clear = best[:, 0] - best[:, 1] > MARGIN
    x, label = x[clear][:count], scores.argmax(1)[clear][:count]
    assert len(x) == count
    return x.reshape(count, 1, 2, 2), label, MARGIN, float(x.norm(dim=1).max())


def test_the_rule_converges_on_separable_data_within_novikoffs_bound():
    x, label, margin, radius = separable()
    model = Perceptron(size=2, classes=3)
    updates, converged = model.learn(x, label, passes=1000)
    assert converged
    assert 0 < updates <= 2 * (radius**2 + 1) / margin**2
    assert torch.equal(model(x).argmax(1), label)
    assert model.learn(x, label, passes=1) == (0, True)


def test_the_rule_never_converges_on_exclusive_or():
    x = torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]]).repeat(1, 2).reshape(4, 1, 2, 2)
    label = torch.tensor([0, 1, 1, 0])
    updates, converged = Perceptron(size=2, classes=2).learn(x, label, passes=200)
    assert not converged
    assert updates >= 200


def test_a_gradient_step_on_one_sample_is_the_rule():
    x, label, *_ = separable(20)
    by_rule, by_gradient = Perceptron(size=2, classes=3), Perceptron(size=2, classes=3)
    objective = registry.objectives.load("perceptron")
    optimizer = torch.optim.SGD(by_gradient.parameters(), lr=1.0)
    by_rule.learn(x, label, passes=1)
    for sample, truth in zip(x, label, strict=True):
        optimizer.zero_grad()
        objective(by_gradient, {"x": sample[None], "label": truth[None]})["loss"].backward()
        optimizer.step()
    torch.testing.assert_close(by_gradient.linear.weight, by_rule.linear.weight)


def test_full_is_the_mark_ones_retina_and_responses():
    assert Perceptron(size="full").linear.weight.shape == (8, 400)


@pytest.mark.slow
def test_the_recipe_reaches_its_accuracy(tmp_path):
    metrics = train.run(load_recipe("perceptron"), RunFolder(tmp_path)).detail["metrics"]
    assert metrics["accuracy"] > 95
