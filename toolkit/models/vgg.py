"""VGG-16: stages of 3x3 convolutions with pools between them, three linear layers."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from toolkit.models._vision import Classifier, Size, side
from toolkit.nn.stages import FULL_STAGES, Stage, conv_stage

DROPOUT = 0.5


class VGG(Classifier):
    """Classify pictures by stages of convolutions, each stage followed by a pool.

    Arguments:
        channels: Channels of a picture.
        size: Height and width, a multiple of 2 per stage; `full` is VGG-16 (configuration D) on
            colour pictures of 224x224, and then the other arguments do not count.
        classes: Number of classes.
        stages: Channels and number of convolutions of each stage.
        hidden: Features of the linear layers.
        batch_norm: Whether batch normalisation follows each convolution.

    References:
        Very Deep Convolutional Networks for Large-Scale Image Recognition, arXiv 1409.1556.
    """

    def __init__(
        self,
        *,
        channels: int = 1,
        size: Size = 16,
        classes: int = 10,
        stages: Sequence[Stage] = ((8, 2), (16, 2), (32, 3)),
        hidden: int = 64,
        batch_norm: bool = True,
    ) -> None:
        if size == "full":
            channels, classes, stages, hidden, batch_norm = 3, 1000, FULL_STAGES, 4096, False
        pixels = side(size, full=224, multiple=2 ** len(stages))
        super().__init__((channels, pixels, pixels))
        layers: list[nn.Module] = []
        before = channels
        for width, count in stages:
            layers += [
                conv_stage(before, width, count=count, batch_norm=batch_norm),
                nn.MaxPool2d(2),
            ]
            before = width
        self.features = nn.Sequential(*layers)
        left = pixels // 2 ** len(stages)
        self.head = nn.Sequential(
            nn.Linear(before * left**2, hidden),
            nn.ReLU(),
            nn.Dropout(DROPOUT),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Dropout(DROPOUT),
            nn.Linear(hidden, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of shape `(batch, classes)` for `x` of shape `(batch, channels, h, w)`."""
        logits: Tensor = self.head(self.features(x).flatten(1))
        return logits


model = VGG
