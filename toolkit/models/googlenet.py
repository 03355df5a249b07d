"""GoogLeNet: nine inception blocks, and two auxiliary heads that only training has."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from toolkit.models._vision import Classifier, Size, side
from toolkit.nn.inception import Branches, Inception, conv_norm

STEM = (64, 192)
BLOCKS = {
    "3a": Branches(64, 96, 128, 16, 32, 32),
    "3b": Branches(128, 128, 192, 32, 96, 64),
    "4a": Branches(192, 96, 208, 16, 48, 64),
    "4b": Branches(160, 112, 224, 24, 64, 64),
    "4c": Branches(128, 128, 256, 24, 64, 64),
    "4d": Branches(112, 144, 288, 32, 64, 64),
    "4e": Branches(256, 160, 320, 32, 128, 128),
    "5a": Branches(256, 160, 320, 32, 128, 128),
    "5b": Branches(384, 192, 384, 48, 128, 128),
}
POOLED = ("3b", "4e")
AUXILIARY = ("4a", "4d")
AUXILIARY_SIDE, AUXILIARY_CHANNELS, AUXILIARY_FEATURES = 4, 128, 1024
DROPOUT, AUXILIARY_DROPOUT = 0.4, 0.7


class GoogLeNet(Classifier):
    """Classify pictures by the published blocks, with batch normalisation.

    In training mode the logits of two auxiliary heads are given beside those of the last one;
    train with the objective `auxiliary`.

    Arguments:
        channels: Channels of a picture.
        size: Height and width; `full` is the published network on colour pictures of 224x224, and
            then the other arguments do not count.
        classes: Number of classes.
        divisor: The published channels are divided by this; the stem keeps the resolution.

    References:
        Going Deeper with Convolutions, arXiv 1409.4842.
        Batch Normalization, arXiv 1502.03167.
    """

    def __init__(
        self, *, channels: int = 1, size: Size = 16, classes: int = 10, divisor: int = 8
    ) -> None:
        if size == "full":
            channels, classes, divisor = 3, 1000, 1
        pixels = side(size, full=224, smallest=4)
        super().__init__((channels, pixels, pixels))
        before = STEM[-1] // divisor
        self.stem = _full_stem(channels) if size == "full" else conv_norm(channels, before, 3)
        self.blocks, self.auxiliary = nn.ModuleDict(), nn.ModuleDict()
        for name, published in BLOCKS.items():
            branches = published.thinned(divisor)
            self.blocks[name] = Inception(before, branches)
            before = branches.total
            if name in AUXILIARY:
                self.auxiliary[name] = _auxiliary_head(before, classes, divisor)
        self.head = nn.Sequential(nn.Dropout(DROPOUT), nn.Linear(before, classes))

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return logits of shape `(batch, classes)` for `x` of shape `(batch, channels, h, w)`.

        In training mode: a tuple of the last head's logits and those of the auxiliary ones.
        """
        others = []
        features = self.stem(x)
        for name, block in self.blocks.items():
            features = block(features)
            if self.training and name in AUXILIARY:
                others.append(self.auxiliary[name](features))
            if name in POOLED:
                features = F.max_pool2d(features, 3, stride=2, padding=1)
        logits: Tensor = self.head(F.adaptive_avg_pool2d(features, 1).flatten(1))
        return (logits, *others) if others else logits


def _full_stem(channels: int) -> nn.Sequential:
    first, last = STEM
    return nn.Sequential(
        conv_norm(channels, first, 7, stride=2),
        nn.MaxPool2d(3, 2, padding=1),
        conv_norm(first, first, 1),
        conv_norm(first, last, 3),
        nn.MaxPool2d(3, 2, padding=1),
    )


def _auxiliary_head(channels: int, classes: int, divisor: int) -> nn.Sequential:
    width, features = AUXILIARY_CHANNELS // divisor, AUXILIARY_FEATURES // divisor
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(AUXILIARY_SIDE),
        conv_norm(channels, width, 1),
        nn.Flatten(),
        nn.Linear(width * AUXILIARY_SIDE**2, features),
        nn.ReLU(),
        nn.Dropout(AUXILIARY_DROPOUT),
        nn.Linear(features, classes),
    )


model = GoogLeNet
