from __future__ import annotations

import pytest
import torch
from torch import nn

from toolkit.nn.stages import conv_stage


@pytest.mark.parametrize("batch_norm", [True, False])
def test_height_and_width_stay_and_a_bias_stands_where_no_norm_shifts(batch_norm):
    stage = conv_stage(2, 5, count=3, batch_norm=batch_norm)
    convolutions = [part for part in stage if isinstance(part, nn.Conv2d)]
    assert stage(torch.rand(1, 2, 6, 7)).shape == (1, 5, 6, 7)
    assert [part.in_channels for part in convolutions] == [2, 5, 5]
    assert all((part.bias is None) == batch_norm for part in convolutions)
