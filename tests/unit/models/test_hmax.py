from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from toolkit.core.folder import RunFolder
from toolkit.core.recipe import load_recipe
from toolkit.data.digits import dataset
from toolkit.models.hmax import HMAX
from toolkit.stages import train

SIGMA = 0.1


@pytest.fixture(scope="module")
def digits() -> Tensor:
    return F.pad(dataset(size=12).test["x"][:64], (2, 2, 2, 2))


@pytest.fixture(scope="module")
def model(digits: Tensor) -> HMAX:
    torch.manual_seed(0)
    model = HMAX(sigma=SIGMA).eval()
    model.initialize(digits)
    return model


def template(x: Tensor, stored: Tensor) -> Tensor:
    """Return the responses of cells tuned to whole pictures, as widely as the model's cells."""
    pixels = x[0].numel()
    distance = torch.cdist(x.flatten(1), stored.flatten(1)).square()
    return torch.exp(-distance / (2 * SIGMA**2 * pixels))


def correlation(first: Tensor, second: Tensor) -> float:
    """Return how alike the cells' responses are, once what all pictures share is taken away."""
    mean = first.mean(0)
    return float(F.cosine_similarity(first - mean, second - mean).mean())


@pytest.mark.parametrize("shift", [(0, 1), (1, 0), (1, 1), (0, 2)])
def test_responses_survive_small_shifts_better_than_a_raw_template(model, digits, shift):
    moved = digits.roll(shift, (2, 3))
    with torch.no_grad():
        cells = correlation(model.c2(digits), model.c2(moved))
    raw = correlation(template(digits, digits), template(moved, digits))
    assert cells > raw
    assert cells > 0.5


def test_a_shifted_digit_is_still_nearest_to_itself(model, digits):
    moved = digits.roll(2, 3)
    own = torch.arange(len(digits))
    with torch.no_grad():
        by_cells = torch.cdist(model.c2(moved), model.c2(digits)).argmin(1)
    by_pixels = torch.cdist(moved.flatten(1), digits.flatten(1)).argmin(1)
    assert (by_cells == own).double().mean() > (by_pixels == own).double().mean()


def test_imprinted_patches_are_met_with_full_response(model, digits):
    with torch.no_grad():
        responses = model.s2[0](model.c1(digits)[0])
    largest = responses.amax((0, 2, 3))
    torch.testing.assert_close(largest, torch.ones_like(largest), rtol=0, atol=1e-3)


def test_initialising_twice_gives_the_same(model, digits):
    again = HMAX()
    again.initialize(digits)
    assert torch.equal(again.s2[0].patches, model.s2[0].patches)


def test_full_has_the_published_filters_and_cells():
    with torch.device("meta"):
        model = HMAX(size="full")
    sides = [cells.filters.shape[-1] for cells in model.s1]
    assert sides == list(range(7, 38, 2))
    assert model.pools == list(range(8, 23, 2))
    assert model.head[1].in_features == 1000


@pytest.mark.slow
def test_the_recipe_reaches_its_accuracy(tmp_path):
    metrics = train.run(load_recipe("hmax"), RunFolder(tmp_path)).detail["metrics"]
    assert metrics["accuracy"] > 96
