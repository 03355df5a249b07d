"""U-Net: a contracting and an expanding path, joined at every resolution."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from toolkit.models._vision import Segmenter, Size, side
from toolkit.nn.stages import conv_stage

LARGEST = 4


class UNet(Segmenter):
    """Label every pixel; convolutions are padded, so the labels cover the whole picture.

    Arguments:
        channels: Channels of a picture.
        size: Height and width of the entry's example; both are multiples of `2 ** depth`. `full`
            has the published channels, for grey pictures of 512x512, and then the other arguments
            do not count.
        classes: Number of classes of a pixel.
        width: Channels at full resolution, doubled by each pool (64 in U-Net).
        depth: Number of pools (4 in U-Net).
        batch_norm: Whether batch normalisation follows each convolution (not in U-Net).

    References:
        U-Net: Convolutional Networks for Biomedical Image Segmentation, arXiv 1505.04597.
    """

    def __init__(
        self,
        *,
        channels: int = 1,
        size: Size = 24,
        classes: int = 11,
        width: int = 8,
        depth: int = 3,
        batch_norm: bool = True,
    ) -> None:
        if size == "full":
            channels, classes, width, depth, batch_norm = 1, 2, 64, 4, False
        step = 2**depth
        pixels = side(size, full=512, multiple=step)
        super().__init__((channels, pixels, pixels), sides=(step, pixels, LARGEST * pixels, step))
        widths = [width * 2**place for place in range(depth + 1)]
        self.down = nn.ModuleList(
            conv_stage(before, after, count=2, batch_norm=batch_norm)
            for before, after in pairwise([channels, *widths])
        )
        self.pool = nn.MaxPool2d(2)
        climb = list(pairwise(reversed(widths)))
        self.grow = nn.ModuleList(
            nn.ConvTranspose2d(before, after, 2, stride=2) for before, after in climb
        )
        self.up = nn.ModuleList(
            conv_stage(before, after, count=2, batch_norm=batch_norm) for before, after in climb
        )
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `(batch, classes, h, w)` for `x` of shape `(batch, channels, h, w)`."""
        first, *deeper = self.down
        levels = [first(x)]
        for stage in deeper:
            levels.append(stage(self.pool(levels[-1])))
        features = levels.pop()
        for grow, stage in zip(self.grow, self.up, strict=True):
            features = stage(torch.cat([levels.pop(), grow(features)], 1))
        logits: Tensor = self.head(features)
        return logits


model = UNet
