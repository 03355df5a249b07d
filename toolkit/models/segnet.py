"""SegNet: an encoder that remembers where its maxima stood, a decoder that puts them back there."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from toolkit.models._vision import Segmenter, Size, side
from toolkit.nn.stages import FULL_STAGES, Stage, conv_stage
from toolkit.nn.unpool import max_pool_with_places, max_unpool


class SegNet(Segmenter):
    """Label every pixel by convolutions, max pools, and max unpools from remembered places.

    Arguments:
        channels: Channels of a picture.
        size: Height and width, a multiple of 2 per stage; `full` is the published network on VGG-16
            for colour pictures, here of 352x352, and then the other arguments do not count.
        classes: Number of classes of a pixel.
        stages: Channels and number of convolutions of each stage of the encoder; the decoder
            mirrors them.

    References:
        SegNet: A Deep Convolutional Encoder-Decoder Architecture for Image Segmentation,
        arXiv 1511.00561.
    """

    def __init__(
        self,
        *,
        channels: int = 1,
        size: Size = 24,
        classes: int = 11,
        stages: Sequence[Stage] = ((16, 2), (32, 2), (48, 2)),
    ) -> None:
        if size == "full":
            channels, classes, stages = 3, 12, FULL_STAGES
        pixels = side(size, full=352, multiple=2 ** len(stages))
        super().__init__((channels, pixels, pixels))
        befores = [channels, *(width for width, _ in stages[:-1])]
        self.encoder = nn.ModuleList(
            conv_stage(before, width, count=count, batch_norm=True)
            for before, (width, count) in zip(befores, stages, strict=True)
        )
        self.decoder = nn.ModuleList(
            _decoder_stage(width, before if place else width, count)
            for place, (before, (width, count)) in reversed(
                list(enumerate(zip(befores, stages, strict=True)))
            )
        )
        self.head = nn.Conv2d(stages[0][0], classes, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `(batch, classes, h, w)` for `x` of shape `(batch, channels, h, w)`."""
        remembered = []
        for stage in self.encoder:
            x, places = max_pool_with_places(stage(x))
            remembered.append(places)
        for stage in self.decoder:
            x = stage(max_unpool(x, remembered.pop()))
        logits: Tensor = self.head(x)
        return logits


def _decoder_stage(width: int, after: int, count: int) -> nn.Sequential:
    """Return one convolution fewer at full width, and the last one with the width that follows."""
    parts = [conv_stage(width, after, count=1, batch_norm=True)]
    if count > 1:
        parts.insert(0, conv_stage(width, width, count=count - 1, batch_norm=True))
    return nn.Sequential(*parts)


model = SegNet
