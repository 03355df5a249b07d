"""Multi-scale flows: half of the channels leave as noise after every scale."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

from toolkit.nn.coupling import bounded
from toolkit.nn.flow import initialize
from toolkit.nn.networks import ZeroConv2d


class ConditionalNormal(nn.Module):
    """Standardise `value` by a mean and deviation predicted from `given`.

    The prior of the channels that leave is thereby learned, and their noise is standard normal.

    Arguments:
        channels: Channels of `given` and of `value`.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.network = ZeroConv2d(channels, 2 * channels)

    def forward(self, value: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        """Return noise of the shape of `value` and `log_det` of shape `(batch,)`."""
        mean, log_deviation = self._law(given)
        return (value - mean) * torch.exp(-log_deviation), -log_deviation.flatten(1).sum(1)

    def inverse(self, noise: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        """Return the value and the inverse's `log_det`."""
        mean, log_deviation = self._law(given)
        return noise * torch.exp(log_deviation) + mean, log_deviation.flatten(1).sum(1)

    def _law(self, given: Tensor) -> tuple[Tensor, Tensor]:
        mean, raw = self.network(given).chunk(2, dim=1)
        return mean, bounded(raw)


class MultiScale(nn.Module):
    """Apply one transform per scale; after all but the last, half of the channels become noise.

    The noise of every scale lies flattened in one tensor, in the order in which it left.

    Arguments:
        scales: One transform per scale.
        shapes: What each transform gives out, `(channels, height, width)`; channels are even.

    References:
        Density estimation using Real NVP, arXiv 1605.08803, section 3.6.
        Glow: Generative Flow with Invertible 1x1 Convolutions, arXiv 1807.03039.
    """

    def __init__(self, scales: Sequence[nn.Module], shapes: Sequence[tuple[int, int, int]]) -> None:
        super().__init__()
        self.scales = nn.ModuleList(scales)
        self.priors = nn.ModuleList(ConditionalNormal(shape[0] // 2) for shape in shapes[:-1])
        halves = [(channels // 2, height, width) for channels, height, width in shapes[:-1]]
        self.shapes = [*halves, shapes[-1]]
        self.sizes = [prod(shape) for shape in self.shapes]

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return noise of shape `(batch, features)` and `log_det` of shape `(batch,)`."""
        x, total = self.scales[0](x, context)
        noise = []
        for prior, scale in zip(self.priors, self.scales[1:], strict=True):
            x, value = x.chunk(2, dim=1)
            leaving, log_det = prior(value, x)
            noise.append(leaving.flatten(1))
            x, scale_log_det = scale(x, context)
            total = total + log_det + scale_log_det
        return torch.cat([*noise, x.flatten(1)], dim=1), total

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return `x` of shape `(batch, channels, height, width)` and the inverse's `log_det`."""
        parts = [
            part.reshape(-1, *shape)
            for part, shape in zip(torch.split(z, self.sizes, dim=1), self.shapes, strict=True)
        ]
        *scales, last = self.scales
        x, total = last.inverse(parts[-1], context)  # type: ignore[operator]
        for prior, scale, noise in reversed(
            list(zip(self.priors, scales, parts[:-1], strict=True))
        ):
            value, log_det = prior.inverse(noise, x)  # type: ignore[operator]
            x, scale_log_det = scale.inverse(torch.cat((x, value), dim=1), context)  # type: ignore[operator]
            total = total + log_det + scale_log_det
        return x, total

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        """Initialise every scale from a first batch."""
        for scale in self.scales:
            initialize(scale, x, context)
            x, _ = scale(x, context)
            x = x.chunk(2, dim=1)[0]
