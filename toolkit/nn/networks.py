"""Networks inside couplings: perceptron and small convolutional network, zero at first."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

LOG_SCALE_FACTOR = 3.0


class Perceptron(nn.Sequential):
    """Linear layers with ReLU between them; the last one starts at zero.

    Arguments:
        features_in: Input features.
        features_out: Output features.
        hidden: Features of every hidden layer.
        layers: Number of hidden layers.
    """

    def __init__(self, features_in: int, features_out: int, *, hidden: int, layers: int) -> None:
        sizes = [features_in, *([hidden] * layers)]
        parts: list[nn.Module] = []
        for size, following in pairwise(sizes):
            parts += [nn.Linear(size, following), nn.ReLU()]
        last = nn.Linear(sizes[-1], features_out)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        super().__init__(*parts, last)


class ZeroConv2d(nn.Module):
    """A 3x3 convolution that starts at zero, times a learned `exp(3 · log_scale)` per channel.

    Arguments:
        channels_in: Input channels.
        channels_out: Output channels.

    References:
        Glow: Generative Flow with Invertible 1x1 Convolutions, arXiv 1807.03039, section 3.3.
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.log_scale = nn.Parameter(torch.zeros(channels_out))
        nn.init.zeros_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Return `(batch, channels_out, height, width)`."""
        scale = torch.exp(LOG_SCALE_FACTOR * self.log_scale)
        result: Tensor = self.conv(x) * scale.view(1, -1, 1, 1)
        return result


class ConvNetwork(nn.Sequential):
    """Convolutions 3x3, 1x1 and a zero-initialised 3x3, with ReLU between them.

    Arguments:
        channels_in: Input channels.
        channels_out: Output channels.
        width: Hidden channels.

    References:
        Glow: Generative Flow with Invertible 1x1 Convolutions, arXiv 1807.03039, section 4.
    """

    def __init__(self, channels_in: int, channels_out: int, *, width: int) -> None:
        super().__init__(
            nn.Conv2d(channels_in, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 1),
            nn.ReLU(),
            ZeroConv2d(width, channels_out),
        )
