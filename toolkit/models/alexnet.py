"""AlexNet: five convolutions with local response normalisation, three linear layers."""

from __future__ import annotations

from torch import Tensor, nn

from toolkit.models._vision import Classifier, Size, side
from toolkit.nn.sizes import output_size

PARTS = (3, 8, 12, 12, 8)
POOL = 3
DROPOUT = 0.5


class AlexNet(Classifier):
    """Classify pictures by AlexNet; three convolutions see half of the channels each, as published.

    Arguments:
        channels: Channels of a picture.
        size: Height and width, from 15 on; `full` is the published network on colour pictures of
            227x227, and then the other arguments do not count.
        classes: Number of classes.
        width: The convolutions have 3, 8, 12, 12 and 8 times as many channels (32 in AlexNet).
        hidden: Features of the linear layers.
        kernel: Side of the first kernel.
        stride: Stride of the first convolution.

    References:
        ImageNet Classification with Deep Convolutional Neural Networks, Krizhevsky et al., NIPS
        2012 (no arXiv number).
    """

    def __init__(
        self,
        *,
        channels: int = 1,
        size: Size = 16,
        classes: int = 10,
        width: int = 8,
        hidden: int = 128,
        kernel: int = 3,
        stride: int = 1,
    ) -> None:
        if size == "full":
            channels, classes, width, hidden, kernel, stride = 3, 1000, 32, 4096, 11, 4
        pixels = side(size, full=227, smallest=15)
        super().__init__((channels, pixels, pixels))
        padding = 0 if stride > 1 else kernel // 2
        left = output_size(pixels, kernel, stride=stride, padding=padding)
        for _ in range(3):
            left = output_size(left, POOL, stride=2)
        first, second, third, fourth, last = (width * part for part in PARTS)
        self.features = nn.Sequential(
            nn.Conv2d(channels, first, kernel, stride, padding),
            nn.ReLU(),
            _normalised(),
            nn.MaxPool2d(POOL, 2),
            nn.Conv2d(first, second, 5, padding=2, groups=2),
            nn.ReLU(),
            _normalised(),
            nn.MaxPool2d(POOL, 2),
            nn.Conv2d(second, third, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(third, fourth, 3, padding=1, groups=2),
            nn.ReLU(),
            nn.Conv2d(fourth, last, 3, padding=1, groups=2),
            nn.ReLU(),
            nn.MaxPool2d(POOL, 2),
        )
        self.head = nn.Sequential(
            nn.Dropout(DROPOUT),
            nn.Linear(last * left**2, hidden),
            nn.ReLU(),
            nn.Dropout(DROPOUT),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of shape `(batch, classes)` for `x` of shape `(batch, channels, h, w)`."""
        logits: Tensor = self.head(self.features(x).flatten(1))
        return logits


def _normalised() -> nn.LocalResponseNorm:
    # The paper sums where torch averages: its alpha of 1e-4 is 5e-4 here.
    return nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)


model = AlexNet
