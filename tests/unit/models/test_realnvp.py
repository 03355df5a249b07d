from __future__ import annotations

import pytest
import torch

from toolkit.core.errors import UsageError
from toolkit.models.realnvp import RealNVP


def test_a_fresh_model_is_the_standard_normal():
    x = torch.randn(8, 4)
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(x).sum(1)
    torch.testing.assert_close(RealNVP(features=4).log_prob(x), expected)


def test_two_couplings_move_every_feature():
    torch.manual_seed(0)
    model = RealNVP(features=4, depth=2)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x = torch.randn(8, 4)
    assert (model(x)[0] != x).all()


@pytest.mark.parametrize("features", [0, 3])
def test_an_odd_number_of_features_is_refused(features):
    with pytest.raises(UsageError, match="features"):
        RealNVP(features=features)
