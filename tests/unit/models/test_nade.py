from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from toolkit.core.errors import UsageError
from toolkit.core.folder import RunFolder
from toolkit.core.recipe import load_recipe
from toolkit.models import _categorical
from toolkit.models.nade import NADE
from toolkit.stages import train


class Elements(TorchDispatchMode):
    """Count what is computed: the elements of every result that is no view, and of products."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        tensors = [item for item in (*args, result) if isinstance(item, torch.Tensor)]
        if not function.is_view:
            self.count += max((item.numel() for item in tensors), default=0)
        return result


def nade(**arguments) -> NADE:
    torch.manual_seed(0)
    return NADE(**{"features": 10, "hidden": 7, **arguments}).eval()


@torch.no_grad()
def cost(features: int, sampler) -> int:
    model = nade(features=features, hidden=64)
    with Elements() as elements:
        sampler(model, torch.randn(features, 1, 2))
    return elements.count


def whole_passes(model: NADE, noise: torch.Tensor) -> torch.Tensor:
    return _categorical.draw_sequence(model, noise, lambda bit: bit.float())


def test_doubling_the_vector_doubles_the_cost_of_sampling():
    costs = [cost(features, lambda model, noise: model.sample(noise)) for features in (32, 64, 128)]
    for short, long in pairwise(costs):
        assert long / short == pytest.approx(2, rel=0.05)
    assert costs[0] < 8 * 32 * 64


def test_the_count_tells_whole_passes_from_a_running_sum():
    costs = [cost(features, whole_passes) for features in (32, 64)]
    assert costs[1] / costs[0] > 3.5


@torch.no_grad()
def test_the_running_sum_draws_what_whole_passes_draw():
    model = nade().double()
    noise = torch.randn(10, 6, 2, dtype=torch.float64)
    expected = _categorical.draw_sequence(model, noise, lambda bit: bit.double())
    drawn = model.sample(noise)
    assert torch.equal(drawn, expected)
    assert len(drawn.unique()) == 2


@torch.no_grad()
def test_probabilities_of_all_vectors_add_up_to_one():
    model = nade().double()
    vectors = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 10).double()
    torch.testing.assert_close(model.log_prob(vectors).exp().sum(), torch.ones(()).double())


def test_the_full_size_has_the_papers_hidden_units():
    assert NADE(features=784, size="full").layer.read.shape == (784, 500)


@pytest.mark.slow
def test_the_recipe_reaches_its_bits_per_dimension(tmp_path):
    metrics = train.run(load_recipe("nade"), RunFolder(tmp_path)).detail["metrics"]
    assert metrics["bits_per_dim"] < 0.435


def test_an_unknown_size_is_refused():
    with pytest.raises(UsageError, match="full"):
        NADE(size="ful")
