"""Hourglasses: residual blocks down to a coarse map and up again, joined at every scale."""

from __future__ import annotations

from torch import Tensor, nn


class Bottleneck(nn.Module):
    """Three convolutions through half the channels, each after its normalisation and ReLU.

    Arguments:
        channels_in: Input channels.
        channels_out: Output channels, even.

    References:
        Identity Mappings in Deep Residual Networks, arXiv 1603.05027.
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        half = channels_out // 2
        self.layers = nn.Sequential(
            *_activated(channels_in, half, 1),
            *_activated(half, half, 3),
            *_activated(half, channels_out, 1),
        )
        same = channels_in == channels_out
        self.shortcut = nn.Identity() if same else nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return `(batch, channels_out, height, width)`."""
        y: Tensor = self.layers(x) + self.shortcut(x)
        return y


class Hourglass(nn.Module):
    """Look at features at half the size, and that again, and add what is seen there.

    Arguments:
        channels: Channels throughout.
        depth: How often height and width, multiples of `2 ** depth`, are halved.

    References:
        Stacked Hourglass Networks for Human Pose Estimation, arXiv 1603.06937.
    """

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        deeper = depth > 1
        self.beside = Bottleneck(channels, channels)
        self.below = nn.Sequential(
            nn.MaxPool2d(2),
            Bottleneck(channels, channels),
            Hourglass(channels, depth - 1) if deeper else Bottleneck(channels, channels),
            Bottleneck(channels, channels),
            nn.Upsample(scale_factor=2, mode="nearest"),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the shape of `x`, `(batch, channels, height, width)`."""
        y: Tensor = self.beside(x) + self.below(x)
        return y


def _activated(channels_in: int, channels_out: int, kernel: int) -> tuple[nn.Module, ...]:
    return (
        nn.BatchNorm2d(channels_in),
        nn.ReLU(),
        nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2),
    )
