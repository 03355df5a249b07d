"""ActNorm: a per-channel affine transform, set so that the first batch leaves it normalised."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor, nn

EPSILON = 1e-6


class ActNorm(nn.Module):
    """Scale and shift every channel: `y = (x + shift) · exp(log_scale)`.

    Until `initialize` is called it is the identity; no forward pass looks at a batch's statistics.

    Arguments:
        channels: Size of axis 1.

    References:
        Glow: Generative Flow with Invertible 1x1 Convolutions, arXiv 1807.03039, section 3.1.
    """

    initialized: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(channels))
        self.log_scale = nn.Parameter(torch.zeros(channels))
        self.register_buffer("initialized", torch.tensor(False))  # noqa: FBT003

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:  # noqa: ARG002
        """Set shift and scale so that every channel of `x` leaves with mean 0 and deviation 1.

        Arguments:
            x: A first batch, `(batch, channels, ...)`.
            context: Not used.
        """
        axes = [axis for axis in range(x.dim()) if axis != 1]
        self.shift.copy_(-x.mean(axes))
        self.log_scale.copy_(-torch.log(x.std(axes, correction=0) + EPSILON))
        self.initialized.fill_(1)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Return `y` of the shape of `x` and `log_det` of shape `(batch,)`."""
        shape = self._shape(x)
        y = (x + self.shift.view(shape)) * torch.exp(self.log_scale).view(shape)
        return y, self._log_det(x)

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Return `x` and the inverse's `log_det`."""
        shape = self._shape(y)
        x = y * torch.exp(-self.log_scale).view(shape) - self.shift.view(shape)
        return x, -self._log_det(y)

    def _shape(self, x: Tensor) -> tuple[int, ...]:
        return (1, -1, *([1] * (x.dim() - 2)))

    def _log_det(self, x: Tensor) -> Tensor:
        positions = prod(x.shape[2:])
        return (self.log_scale.sum() * positions).expand(x.shape[0])
