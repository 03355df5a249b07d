from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from toolkit.nn.tuning import GaborFilters, GaussianTuning


@pytest.mark.parametrize("kernel", [3, 4])
def test_responses_are_the_gaussian_of_the_distance_to_each_patch(kernel):
    torch.manual_seed(0)
    cells = GaussianTuning(2, 5, kernel, sigma=1.5).double()
    x = torch.rand(3, 2, 6, 7, dtype=torch.float64)
    patches = F.unfold(x, kernel, padding=kernel // 2).transpose(1, 2)
    distance = torch.cdist(patches, cells.patches.flatten(1))
    expected = torch.exp(-distance.square() / (2 * 1.5**2)).transpose(1, 2)
    responses = cells(x)
    torch.testing.assert_close(responses.flatten(2), expected)


def test_a_met_patch_gives_one_and_every_other_less():
    cells = GaussianTuning(1, 2, 3, sigma=1.0)
    x = torch.rand(1, 1, 3, 3)
    with torch.no_grad():
        cells.patches.copy_(torch.cat([x, x + 0.5]))
        met, other = cells(x)[0, :, 1, 1]
    assert met == pytest.approx(1, abs=1e-6)
    assert other == pytest.approx(torch.exp(torch.tensor(-9 * 0.25 / 2)).item(), abs=1e-6)


def test_filters_have_mean_zero_and_norm_one():
    filters = GaborFilters(7, 4).filters
    assert filters.shape == (4, 1, 7, 7)
    torch.testing.assert_close(filters.sum((1, 2, 3)), torch.zeros(4), rtol=0, atol=1e-6)
    torch.testing.assert_close(filters.square().sum((1, 2, 3)), torch.ones(4))


def test_each_orientation_answers_most_to_its_own_bar():
    bars = torch.zeros(2, 1, 15, 15)
    bars[0, 0, :, 7] = 1
    bars[1, 0, 7, :] = 1
    responses = GaborFilters(7, 4)(bars)[:, :, 7, 7]
    assert responses.argmax(1).tolist() == [0, 2]
