"""Gated PixelCNN: a vertical and a horizontal path of gated convolutions, without a blind spot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from toolkit.core.entry import Autoregressive, Entry, Input
from toolkit.models import _categorical
from toolkit.nn.gated import GatedPixelLayer
from toolkit.nn.masked import MaskedConv2d


class GatedPixelCNN(nn.Module):
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

    family: ClassVar[str] = "autoregressive"

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
        super().__init__()
        if _categorical.is_full(size):
            channels, layers, first_kernel, kernel = 128 - 128 % colours, 14, 7, 5
        self.levels = levels
        self.size = (colours, height, width)
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

    def embed(self, level: Tensor) -> Tensor:
        """Return the pixel values of levels."""
        return level / (self.levels - 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `(batch, levels, colours, height, width)` of pictures.

        Arguments:
            x: Pictures `(batch, colours, height, width)`.
        """
        _, horizontal = self.paths((x, x))
        return _categorical.by_colour(self.head(horizontal), self.size[0])

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-probability of each picture in nats, `(batch,)`."""
        return _categorical.log_prob_of(
            self.forward(x), _categorical.nearest_level(x, self.levels), 1
        )

    def sample(self, noise: Tensor) -> Tensor:
        """Draw pictures by one whole forward pass per colour of a pixel.

        Arguments:
            noise: Standard Gumbel noise `(height * width * colours, batch, levels)`.

        Returns:
            Levels, int64 `(batch, colours, height, width)`.
        """
        return _categorical.draw_picture(
            self, noise, lambda level: self.embed(level.to(noise.dtype)), size=self.size
        )

    def entries(self) -> Sequence[Entry | Autoregressive]:
        """Return `log_prob` of a picture, and how a grey one is sampled."""
        example = self.embed(_categorical.drawn((_categorical.EXAMPLES, *self.size), self.levels))
        x = Input("x", example, dims=("batch", None, None, None))
        return _categorical.picture_entries(x, self.levels, self.embed)


model = GatedPixelCNN
