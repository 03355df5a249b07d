"""DCGAN's two networks of strided convolutions: noise to a picture, and a picture to one number."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

Shape = tuple[int, int, int]
LEAK = 0.2


class Generator(nn.Sequential):
    """Transposed convolutions that double the picture, from one dense layer on.

    Batch normalisation and ReLU follow every layer but the last, which a sigmoid follows: pixels
    lie in [0, 1].

    Arguments:
        latent: Features of the noise.
        shape: Channels, height and width; both sides multiples of `2 ** len(widths)`.
        widths: Channels before each doubling.
        kernel: Side of the kernels; 4 or 5.

    References:
        Unsupervised Representation Learning with Deep Convolutional Generative Adversarial
        Networks, arXiv 1511.06434.
    """

    def __init__(self, latent: int, shape: Shape, widths: Sequence[int], kernel: int) -> None:
        channels, height, width = shape
        factor = 2 ** len(widths)
        small = (widths[0], height // factor, width // factor)
        parts: list[nn.Module] = [
            nn.Linear(latent, small[0] * small[1] * small[2], bias=False),
            nn.Unflatten(1, small),
        ]
        for before, after in pairwise([*widths, channels]):
            parts += [nn.BatchNorm2d(before), nn.ReLU(), _doubling(before, after, kernel)]
        super().__init__(*parts, nn.Sigmoid())


class Discriminator(nn.Sequential):
    """Convolutions that halve the picture, with leaky ReLU, then one dense layer to one number.

    Arguments:
        shape: Channels, height and width; both sides multiples of `2 ** len(widths)`.
        widths: Channels after each halving.
        kernel: Side of the kernels; 4 or 5.
        batch_norm: Whether batch normalisation follows every convolution but the first.

    References:
        Unsupervised Representation Learning with Deep Convolutional Generative Adversarial
        Networks, arXiv 1511.06434.
    """

    def __init__(
        self, shape: Shape, widths: Sequence[int], kernel: int, *, batch_norm: bool
    ) -> None:
        channels, height, width = shape
        factor = 2 ** len(widths)
        parts: list[nn.Module] = [_halving(channels, widths[0], kernel), nn.LeakyReLU(LEAK)]
        for before, after in pairwise(widths):
            parts.append(_halving(before, after, kernel, bias=not batch_norm))
            parts += [nn.BatchNorm2d(after)] * batch_norm
            parts.append(nn.LeakyReLU(LEAK))
        flat = widths[-1] * (height // factor) * (width // factor)
        super().__init__(*parts, nn.Flatten(), nn.Linear(flat, 1), nn.Flatten(0))


def _halving(before: int, after: int, kernel: int, *, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(before, after, kernel, stride=2, padding=(kernel - 1) // 2, bias=bias)


def _doubling(before: int, after: int, kernel: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(
        before, after, kernel, stride=2, padding=(kernel - 1) // 2, output_padding=kernel % 2
    )
