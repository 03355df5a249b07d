"""Gated PixelCNN: a vertical and a horizontal path of gated convolutions, without a blind spot."""

from __future__ import annotations

from torch import Tensor, nn

from toolkit.models import _categorical
from toolkit.models._size import is_full
from toolkit.nn.gated import GatedPixelLayer
from toolkit.nn.masked import MaskedConv2d


class GatedPixelCNN(_categorical.Pictures):
    """Model pictures one pixel after the other, in raster order, and R, G, B within a pixel.

    A picture holds `level / (levels - 1)`, so values from 0 to 1.

    Arguments:
        levels: Number of levels of a colour.
        colours: Colours of a pixel: 1, or 3 for R, then G given R, then B given both.
        height: Rows of a picture.
        width: Columns of a picture.
        channels: Channels of either path; a multiple of the colours.
        layers: Number of layers behind the first.
        first_kernel: Side of the first kernel.
        kernel: Side of the other kernels.
        size: `given` takes the other arguments; `full` takes the paper's 128 channels (126 with
            three colours), 14 layers of 5x5 behind a first one of 7x7.

    Raises:
        UsageError: The size is no known one.

    References:
        Conditional Image Generation with PixelCNN Decoders, 2016, arXiv 1606.05328.
    """

    def __init__(
        self,
        *,
        levels: int = 17,
        colours: int = 1,
        height: int = 8,
        width: int = 8,
        channels: int = 24,
        layers: int = 3,
        first_kernel: int = 7,
        kernel: int = 3,
        size: str = "given",
    ) -> None:
        super().__init__(levels, (colours, height, width))
        if is_full(size):
            channels, layers, first_kernel, kernel = 128 - 128 % colours, 14, 7, 5
        self.paths = nn.Sequential(
            GatedPixelLayer("A", colours, channels, first_kernel, colours=colours),
            *(
                GatedPixelLayer("B", channels, channels, kernel, colours=colours)
                for _ in range(layers)
            ),
        )
        self.head = nn.Sequential(
            nn.ReLU(),
            MaskedConv2d("B", channels, channels, 1, colours=colours),
            nn.ReLU(),
            MaskedConv2d("B", channels, colours * levels, 1, colours=colours),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `(batch, levels, colours, height, width)` of pictures.

        Arguments:
            x: Pictures `(batch, colours, height, width)`.
        """
        _, horizontal = self.paths((x, x))
        return _categorical.by_colour(self.head(horizontal), self.size[0])


model = GatedPixelCNN
