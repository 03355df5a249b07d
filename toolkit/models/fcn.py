"""Fully convolutional network: logits of every pixel, from three depths, at any size."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from toolkit.core.errors import UsageError
from toolkit.models._vision import Segmenter, Size, side
from toolkit.nn.stages import FULL_STAGES, Stage, conv_stage
from toolkit.nn.upsample import Upsampling, upsampler

SKIPS = 2
LARGEST = 4


class FCN(Segmenter):
    """Label every pixel: FCN-8s, with the upsampling of your choice.

    Every stage of convolutions halves height and width, rounding up. The last stage's logits are
    brought to twice the size and added to the logits of the stage before, twice; then they are
    brought to the picture's own size.

    Arguments:
        channels: Channels of a picture.
        size: Height and width of the entry's example; `full` is FCN-8s on VGG-16, for colour
            pictures of 500x500, and then the other arguments but `upsampling` do not count.
        classes: Number of classes of a pixel.
        stages: Channels and number of convolutions of each stage, at least three.
        hidden: Channels of the two layers that stand for VGG's linear ones.
        kernel: Side of the first of these layers' kernels; odd.
        upsampling: `nearest` neighbour, `bed_of_nails`, or a `transposed` convolution; the first
            two are followed by a 3x3 convolution.
        batch_norm: Whether batch normalisation follows each convolution of the stages.

    Raises:
        UsageError: There are too few stages.

    References:
        Fully Convolutional Networks for Semantic Segmentation, arXiv 1411.4038.
    """

    def __init__(
        self,
        *,
        channels: int = 1,
        size: Size = 24,
        classes: int = 11,
        stages: Sequence[Stage] = ((16, 2), (32, 2), (48, 2)),
        hidden: int = 64,
        kernel: int = 3,
        upsampling: Upsampling = "transposed",
        batch_norm: bool = True,
    ) -> None:
        if size == "full":
            channels, classes, stages = 3, 21, FULL_STAGES
            hidden, kernel, batch_norm = 4096, 7, False
        if len(stages) <= SKIPS:
            raise UsageError(
                f"{len(stages)} stages are too few",
                where="[model] of the recipe",
                next_step=f"give more than {SKIPS}",
            )
        pixels = side(size, full=500)
        super().__init__((channels, pixels, pixels), sides=(1, pixels, LARGEST * pixels, 1))
        widths = [channels, *(width for width, _ in stages)]
        self.stages = nn.ModuleList(
            conv_stage(before, after, count=count, batch_norm=batch_norm)
            for before, (after, count) in zip(widths, stages, strict=False)
        )
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        self.head = nn.Sequential(
            nn.Conv2d(widths[-1], hidden, kernel, padding=kernel // 2),
            nn.ReLU(),
            nn.Conv2d(hidden, hidden, 1),
            nn.ReLU(),
            nn.Conv2d(hidden, classes, 1),
        )
        earlier = widths[-2 : -2 - SKIPS : -1]
        self.skips = nn.ModuleList(nn.Conv2d(width, classes, 1) for width in earlier)
        factors = [*([2] * SKIPS), 2 ** (len(stages) - SKIPS)]
        self.ups = nn.ModuleList(_up(upsampling, classes, factor) for factor in factors)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `(batch, classes, h, w)` for `x` of shape `(batch, channels, h, w)`."""
        depths = [x]
        for stage in self.stages:
            depths.append(self.pool(stage(depths[-1])))
        logits: Tensor = self.head(depths.pop())
        for skip, up in zip(self.skips, self.ups, strict=False):
            features = depths.pop()
            logits = _cropped(up(logits), features) + skip(features)
        return _cropped(self.ups[-1](logits), x)


def _up(kind: Upsampling, classes: int, factor: int) -> nn.Module:
    up = upsampler(kind, classes, factor)
    if kind == "transposed":
        return up
    return nn.Sequential(up, nn.Conv2d(classes, classes, 3, padding=1))


def _cropped(x: Tensor, like: Tensor) -> Tensor:
    return x[:, :, : like.shape[2], : like.shape[3]]


model = FCN
