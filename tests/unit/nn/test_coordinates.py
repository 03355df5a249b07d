from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from toolkit.nn.coordinates import FourierFeatures, SineLayer


def test_the_arguments_of_deep_sines_deviate_by_about_one_at_every_depth():
    torch.manual_seed(0)
    first = SineLayer(2, 512, omega=30.0, first=True)
    deeper = nn.ModuleList(SineLayer(512, 512, omega=30.0) for _ in range(4))
    with torch.no_grad():
        h = first(2 * torch.rand(512, 2) - 1)
        for layer in deeper:
            assert 0.9 < (layer.omega * layer.linear(h)).std() < 1.4
            h = layer(h)


def test_omega_multiplies_the_linear_layer():
    layer = SineLayer(2, 4, omega=3.0, first=True)
    x = torch.rand(5, 2)
    torch.testing.assert_close(layer(x), torch.sin(3 * layer.linear(x)))


def test_fourier_features_of_two_points_depend_on_their_distance_alone():
    torch.manual_seed(0)
    features = FourierFeatures(2, 64, deviation=2.0).double()
    a, b, shift = (torch.rand(1, 2).double() for _ in range(3))
    expected = (features(a) * features(b)).sum()
    moved = (features(a + shift) * features(b + shift)).sum()
    assert moved == pytest.approx(float(expected))
    assert float(features(a).square().sum()) == pytest.approx(32)


def test_frequencies_are_in_periods_per_unit():
    features = FourierFeatures(1, 2, deviation=1.0)
    with torch.no_grad():
        features.frequencies.fill_(2.0)
    expected = [[math.cos(4 * math.pi * 0.3), math.sin(4 * math.pi * 0.3)]]
    torch.testing.assert_close(features(torch.tensor([[0.3]])), torch.tensor(expected))
