from __future__ import annotations

from itertools import product

import pytest
import torch
from torch.nn import functional as F

from toolkit.core.errors import UsageError
from toolkit.nn.sizes import output_size

SHAPES = list(product((7, 8, 13), (1, 2, 3), (1, 2, 3), (0, 1, 2), (1, 2)))


@pytest.mark.parametrize(("size", "kernel", "stride", "padding", "dilation"), SHAPES)
def test_it_is_the_size_that_torch_gives(size, kernel, stride, padding, dilation):
    y = F.conv1d(
        torch.zeros(1, 1, size),
        torch.zeros(1, 1, kernel),
        stride=stride,
        padding=padding,
        dilation=dilation,
    )
    computed = output_size(size, kernel, stride=stride, padding=padding, dilation=dilation)
    assert computed == y.shape[-1]


def test_a_kernel_that_does_not_fit_is_refused():
    assert output_size(5, 3, dilation=2) == 1
    with pytest.raises(UsageError, match="does not fit"):
        output_size(4, 3, dilation=2)
