"""Encoders and decoders of pictures: dense layers, and strided convolutions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

KERNEL = 4


def dense(sizes: Sequence[int], activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Return linear layers with an activation between them, and none after the last one.

    Arguments:
        sizes: Features of input, hidden layers and output.
        activation: Class of the activation.
    """
    first, *others = pairwise(sizes)
    parts: list[nn.Module] = [nn.Linear(*first)]
    for pair in others:
        parts += [activation(), nn.Linear(*pair)]
    return nn.Sequential(*parts)


class ConvEncoder(nn.Sequential):
    """Convolutions 4x4 that halve the picture, then one dense layer; ReLU after each.

    Arguments:
        shape: Channels, height and width; both sides multiples of `2 ** len(widths)`.
        widths: Channels of each convolution.
        features: Features of the dense layer.

    References:
        beta-VAE, Higgins et al., ICLR 2017, table 1.
    """

    def __init__(self, shape: tuple[int, int, int], widths: Sequence[int], features: int) -> None:
        channels, height, width = shape
        shrink = 2 ** len(widths)
        parts: list[nn.Module] = []
        for before, after in pairwise([channels, *widths]):
            parts += [nn.Conv2d(before, after, KERNEL, stride=2, padding=1), nn.ReLU()]
        flat = widths[-1] * (height // shrink) * (width // shrink)
        super().__init__(*parts, nn.Flatten(), nn.Linear(flat, features), nn.ReLU())
        _keep_variance(self)


class ConvDecoder(nn.Module):
    """The mirrored `ConvEncoder`: two dense layers, then convolutions that double the picture.

    Arguments:
        code: Features of a code.
        shape: Channels, height and width of what comes out.
        widths: Channels of the encoder's convolutions.
        features: Features of the first dense layer.

    References:
        beta-VAE, Higgins et al., ICLR 2017, table 1.
    """

    def __init__(
        self, code: int, shape: tuple[int, int, int], widths: Sequence[int], features: int
    ) -> None:
        super().__init__()
        channels, height, width = shape
        shrink = 2 ** len(widths)
        self.small = (widths[-1], height // shrink, width // shrink)
        flat = self.small[0] * self.small[1] * self.small[2]
        self.dense = nn.Sequential(
            nn.Linear(code, features), nn.ReLU(), nn.Linear(features, flat), nn.ReLU()
        )
        first, *others = pairwise([*reversed(widths), channels])
        parts: list[nn.Module] = [_doubling(*first)]
        for pair in others:
            parts += [nn.ReLU(), _doubling(*pair)]
        self.up = nn.Sequential(*parts)
        _keep_variance(self)

    def forward(self, code: Tensor) -> Tensor:
        """Return `(batch, *shape)` for codes `(batch, code)`."""
        pictures: Tensor = self.up(self.dense(code).reshape(-1, *self.small))
        return pictures


def _keep_variance(module: nn.Module) -> None:
    """Initialise layers before ReLU so that signals keep their size: else codes fall silent.

    References:
        Delving Deep into Rectifiers, arXiv 1502.01852.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        elif isinstance(layer, nn.ConvTranspose2d):
            # Every output pixel sees a quarter of the kernel.
            inputs = layer.in_channels * KERNEL * KERNEL // 4
            nn.init.normal_(layer.weight, std=math.sqrt(2 / inputs))
        else:
            continue
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]


def _doubling(before: int, after: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(before, after, KERNEL, stride=2, padding=1)
