"""ResNet-18 for small grey or colour pictures."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from toolkit.models._vision import Classifier, Size, side
from toolkit.nn.residual import ResidualBlock


class ResNet(Classifier):
    """Classify pictures by four stages of residual blocks; a small stem keeps the resolution.

    Arguments:
        channels: Channels of a picture.
        size: Height and width of the entries' example; any size from 8 works. `full` is ResNet-18
            on colour pictures of 224x224, whose stem quarters the resolution, and then the other
            arguments do not count.
        classes: Number of classes.
        width: Channels of the first stage, doubled by each later one (64 in ResNet-18).
        blocks: Residual blocks per stage.

    References:
        Deep Residual Learning for Image Recognition, arXiv 1512.03385.
    """

    def __init__(
        self,
        *,
        channels: int = 1,
        size: Size = 8,
        classes: int = 10,
        width: int = 16,
        blocks: Sequence[int] = (2, 2, 2, 2),
    ) -> None:
        if size == "full":
            channels, classes, width, blocks = 3, 1000, 64, (2, 2, 2, 2)
        pixels = side(size, full=224)
        super().__init__((channels, pixels, pixels))
        widths = [width * 2**stage for stage in range(len(blocks))]
        kernel, stride = (7, 2) if size == "full" else (3, 1)
        self.stem = nn.Sequential(
            nn.Conv2d(channels, width, kernel, stride, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            *([nn.MaxPool2d(3, 2, padding=1)] if size == "full" else []),
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


def _stage(before: int, after: int, *, count: int, stride: int) -> nn.Sequential:
    first = ResidualBlock(before, after, stride=stride)
    return nn.Sequential(first, *(ResidualBlock(after, after) for _ in range(count - 1)))


model = ResNet
