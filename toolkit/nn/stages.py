"""Stages of 3x3 convolutions, as in VGG and what is built on it."""

from __future__ import annotations

from torch import nn

Stage = tuple[int, int]
FULL_STAGES: tuple[Stage, ...] = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


def conv_stage(
    channels_in: int, channels_out: int, *, count: int, batch_norm: bool
) -> nn.Sequential:
    """Return 3x3 convolutions with ReLU that keep height and width.

    Arguments:
        channels_in: Input channels of the first.
        channels_out: Output channels of each.
        count: Number of convolutions.
        batch_norm: Whether batch normalisation follows each convolution.
    """
    layers: list[nn.Module] = []
    for before in (channels_in, *([channels_out] * (count - 1))):
        layers.append(nn.Conv2d(before, channels_out, 3, padding=1, bias=not batch_norm))
        if batch_norm:
            layers.append(nn.BatchNorm2d(channels_out))
        layers.append(nn.ReLU())
    return nn.Sequential(*layers)
