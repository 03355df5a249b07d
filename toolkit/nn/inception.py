"""Inception blocks: convolutions of several sizes side by side."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Branches:
    """Output channels of an inception block's parts.

    Arguments:
        one: Of the 1x1 convolution.
        reduce_three: Of the 1x1 convolution before the 3x3 one.
        three: Of the 3x3 convolution.
        reduce_five: Of the 1x1 convolution before the 5x5 one.
        five: Of the 5x5 convolution.
        pooled: Of the 1x1 convolution after the pool.
    """

    one: int
    reduce_three: int
    three: int
    reduce_five: int
    five: int
    pooled: int

    @property
    def total(self) -> int:
        """Channels of the block's output."""
        return self.one + self.three + self.five + self.pooled

    def thinned(self, divisor: int) -> Branches:
        """Return a block with fewer channels."""
        parts = (getattr(self, name) // divisor for name in self.__slots__)
        return Branches(*(max(1, part) for part in parts))


class Inception(nn.Module):
    """Concatenate 1x1, 3x3 and 5x5 convolutions and a pool, each thinned out by a 1x1 convolution.

    Arguments:
        channels_in: Input channels.
        branches: Output channels of the parts.

    References:
        Going Deeper with Convolutions, arXiv 1409.4842, section 4.
    """

    def __init__(self, channels_in: int, branches: Branches) -> None:
        super().__init__()
        self.one = conv_norm(channels_in, branches.one, 1)
        self.three = nn.Sequential(
            conv_norm(channels_in, branches.reduce_three, 1),
            conv_norm(branches.reduce_three, branches.three, 3),
        )
        self.five = nn.Sequential(
            conv_norm(channels_in, branches.reduce_five, 1),
            conv_norm(branches.reduce_five, branches.five, 5),
        )
        self.pooled = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1), conv_norm(channels_in, branches.pooled, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return `(batch, branches.total, height, width)`."""
        return torch.cat([self.one(x), self.three(x), self.five(x), self.pooled(x)], 1)


def conv_norm(
    channels_in: int, channels_out: int, kernel: int, *, stride: int = 1
) -> nn.Sequential:
    """Return a convolution padded by half its kernel, batch normalisation and ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    )
