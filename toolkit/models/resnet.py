"""ResNet-18 for small grey or colour pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from toolkit.core.entry import Entry, Input
from toolkit.nn.residual import ResidualBlock


class ResNet(nn.Module):
    """Classify pictures by four stages of residual blocks; the stem keeps the resolution.

    Arguments:
        channels: Channels of a picture.
        size: Height and width of the entries' example; any size from 8 works.
        classes: Number of classes.
        width: Channels of the first stage, doubled by each later one (64 in ResNet-18).
        blocks: Residual blocks per stage.

    References:
        Deep Residual Learning for Image Recognition, arXiv 1512.03385.
    """

    family: ClassVar[str] = "classifier"

    def __init__(
        self,
        *,
        channels: int = 1,
        size: int = 8,
        classes: int = 10,
        width: int = 16,
        blocks: Sequence[int] = (2, 2, 2, 2),
    ) -> None:
        super().__init__()
        self.shape = (channels, size, size)
        widths = [width * 2**stage for stage in range(len(blocks))]
        self.stem = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.stages = nn.Sequential(
            *(
                _stage(before, after, count=count, stride=1 if before == after else 2)
                for before, after, count in zip([width, *widths[:-1]], widths, blocks, strict=True)
            )
        )
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of shape `(batch, classes)` for `x` of shape `(batch, channels, h, w)`."""
        features = F.adaptive_avg_pool2d(self.stages(self.stem(x)), 1).flatten(1)
        logits: Tensor = self.head(features)
        return logits

    def entries(self) -> list[Entry]:
        """Return `forward`."""
        example = torch.rand(4, *self.shape, generator=torch.Generator().manual_seed(0))
        return [
            Entry(
                "forward",
                inputs=[Input("x", example, dims=("batch", None, None, None))],
                outputs=["logits"],
                units={"logits": "accuracy"},
            )
        ]


def _stage(before: int, after: int, *, count: int, stride: int) -> nn.Sequential:
    first = ResidualBlock(before, after, stride=stride)
    return nn.Sequential(first, *(ResidualBlock(after, after) for _ in range(count - 1)))


model = ResNet
