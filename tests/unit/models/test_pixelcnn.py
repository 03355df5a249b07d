from __future__ import annotations

import pytest

from toolkit.core.errors import UsageError
from toolkit.models.pixelcnn import PixelCNN
from toolkit.nn.masked import MaskedConv2d


def test_the_full_size_has_the_papers_layers():
    model = PixelCNN(levels=256, height=28, width=28, size="full")
    layers = [part for part in model.modules() if isinstance(part, MaskedConv2d)]
    assert [layer.kernel_size for layer in layers] == [(7, 7), *[(3, 3)] * 15, (1, 1), (1, 1)]
    assert {layer.out_channels for layer in layers[:-1]} == {128}


def test_an_unknown_size_names_the_known_ones():
    with pytest.raises(UsageError, match="full"):
        PixelCNN(size="ful")
