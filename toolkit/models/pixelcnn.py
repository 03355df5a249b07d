"""PixelCNN: masked convolutions give each pixel's law from the pixels before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from toolkit.core.entry import Autoregressive, Entry, Input
from toolkit.models._size import is_full
from toolkit.nn.masked import CausalLayer, MaskedConv2d


class PixelCNN(nn.Module):
    """Model grey-level pictures one pixel after the other, in raster order.

    A picture holds `level / (levels - 1)`, so values from 0 to 1.

    Arguments:
        levels: Number of grey levels.
        height: Rows of a picture.
        width: Columns of a picture.
        channels: Channels of the hidden layers.
        layers: Number of residual layers.
        first_kernel: Side of the first kernel, which leaves the current pixel out.
        kernel: Side of the residual layers' kernels.
        size: `given` takes the other arguments; `full` takes the paper's 128 channels and 15 layers
            of 3x3, behind a first one of 7x7.

    Raises:
        UsageError: The size is no known one.

    References:
        Pixel Recurrent Neural Networks, 2016, arXiv 1601.06759.
    """

    family: ClassVar[str] = "autoregressive"

    def __init__(
        self,
        *,
        levels: int = 17,
        height: int = 8,
        width: int = 8,
        channels: int = 32,
        layers: int = 4,
        first_kernel: int = 7,
        kernel: int = 3,
        size: str = "given",
    ) -> None:
        super().__init__()
        if is_full(size):
            channels, layers, first_kernel, kernel = 128, 15, 7, 3
        self.levels, self.height, self.width = levels, height, width
        self.stack = nn.Sequential(
            CausalLayer(MaskedConv2d("A", 1, channels, first_kernel), nn.ReLU(), residual=False),
            *(
                CausalLayer(MaskedConv2d("B", channels, channels, kernel), nn.ReLU(), residual=True)
                for _ in range(layers)
            ),
            CausalLayer(MaskedConv2d("B", channels, channels, 1), nn.ReLU(), residual=False),
            CausalLayer(MaskedConv2d("B", channels, levels, 1), nn.Identity(), residual=False),
        )

    def embed(self, level: Tensor) -> Tensor:
        """Return the pixel values of grey levels."""
        return level / (self.levels - 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `(batch, levels, height, width)` of `(batch, 1, height, width)`."""
        logits: Tensor = self.stack(x)
        return logits

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-probability of each picture, `(batch,)`, in nats."""
        level = (x * (self.levels - 1)).round().clamp(0, self.levels - 1).long()
        return self.forward(x).log_softmax(1).gather(1, level).sum((1, 2, 3))

    @torch.no_grad()
    def sample(self, noise: Tensor) -> Tensor:
        """Draw pictures by one whole forward pass per pixel: slow, and plainly right.

        Arguments:
            noise: Standard Gumbel noise `(height * width, batch, levels)`.

        Returns:
            Grey levels, int64 `(batch, 1, height, width)`.
        """
        x = noise.new_zeros(noise.shape[1], 1, self.height, self.width)
        levels = torch.zeros_like(x, dtype=torch.int64)
        for position in range(self.height * self.width):
            row, column = divmod(position, self.width)
            level = (self(x)[:, :, row, column] + noise[position]).argmax(1)
            levels[:, 0, row, column] = level
            x[:, 0, row, column] = self.embed(level.to(x.dtype))
        return levels

    def entries(self) -> Sequence[Entry | Autoregressive]:
        """Return `log_prob` of a picture, and how a picture is sampled."""
        drawn = torch.randint(
            self.levels,
            (2, 1, self.height, self.width),
            generator=torch.Generator().manual_seed(0),
        )
        x = Input("x", self.embed(drawn), dims=("batch", None, None, None))
        return [
            Entry("log_prob", "log_prob", [x], ["log_prob"], units={"log_prob": "nats"}),
            Autoregressive(
                "sample",
                call="forward",
                input=x,
                order="raster",
                levels=self.levels,
                levels_axis=1,
                embed=self.embed,
                predicts="this",
            ),
        ]


model = PixelCNN
