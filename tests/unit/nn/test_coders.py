from __future__ import annotations

import torch
from torch import nn

from toolkit.nn.coders import ConvDecoder, ConvEncoder, dense


def test_there_is_no_activation_after_the_last_layer():
    layers = dense([4, 8, 6, 2], nn.Tanh)
    assert [type(layer) for layer in layers] == [
        nn.Linear,
        nn.Tanh,
        nn.Linear,
        nn.Tanh,
        nn.Linear,
    ]
    assert layers(torch.zeros(3, 4)).shape == (3, 2)


def test_convolutional_coders_mirror_each_other():
    shape = (3, 16, 24)
    encoder = ConvEncoder(shape, (4, 8, 8), 10)
    decoder = ConvDecoder(5, shape, (4, 8, 8), 10)
    assert encoder(torch.zeros(2, *shape)).shape == (2, 10)
    assert decoder(torch.zeros(2, 5)).shape == (2, *shape)
    convolutions = [layer for layer in encoder if isinstance(layer, nn.Conv2d)]
    mirrored = [layer for layer in decoder.up if isinstance(layer, nn.ConvTranspose2d)]
    for one, other in zip(convolutions, reversed(mirrored), strict=True):
        assert one.weight.shape == other.weight.shape


def test_signals_keep_their_size():
    torch.manual_seed(0)
    shape = (1, 32, 32)
    widths = (32, 64, 64)
    features = ConvEncoder(shape, widths, 128)(torch.randn(64, *shape))
    pictures = ConvDecoder(10, shape, widths, 128)(torch.randn(64, 10))
    assert 0.3 < features.square().mean() < 3
    assert 0.3 < pictures.square().mean() < 6
