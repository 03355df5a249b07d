"""Masked autoregressive transforms: one pass in one direction, one per feature in the other."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from toolkit.nn.coupling import bounded
from toolkit.nn.iterate import iterate
from toolkit.nn.made import MADE


class MaskedAffine(nn.Module):
    """Shift and scale every feature, given those before it: `y = (x − shift(x)) · exp(−scale(x))`.

    Arguments:
        features: Length of a vector.
        hidden: Units of each hidden layer of the masked network.
        layers: Number of its hidden layers.
        reverse: Whether the last feature is the first in order.

    References:
        Masked Autoregressive Flow for Density Estimation, arXiv 1705.07057.
    """

    def __init__(self, features: int, *, hidden: int, layers: int, reverse: bool = False) -> None:
        super().__init__()
        self.features = features
        self.network = MADE(features, 2, hidden=hidden, layers=layers, reverse=reverse)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Return `y` of shape `(batch, features)` and `log_det`, `(batch,)`: one pass."""
        log_scale, shift = self._affine(x)
        return (x - shift) * torch.exp(-log_scale), -log_scale.sum(1)

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Return `x` and the inverse's `log_det`: as many passes as features.

        Each pass makes the next feature in order right, whatever the ones after it hold, and keeps
        those that are. A captured graph holds `solve`, which is the work of one pass.
        """
        if torch.compiler.is_exporting():
            return self.solve(y)

        def step(x: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
            log_scale, shift = self._affine(x)
            return y * torch.exp(log_scale) + shift, log_scale

        x, log_scale = iterate(step, self.features, torch.zeros_like(y), torch.zeros_like(y))
        return x, log_scale.sum(1)

    def solve(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return `x` and the inverse's `log_det`: feature by feature, at the cost of one pass."""

        def update(y: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
            raw, shift = numbers.chunk(2, dim=1)
            log_scale = bounded(raw)
            return y * torch.exp(log_scale) + shift, log_scale

        x, log_scale = self.network.solve(y, update)
        return x, log_scale.sum(1)

    def _affine(self, x: Tensor) -> tuple[Tensor, Tensor]:
        raw, shift = self.network(x).chunk(2, dim=1)
        return bounded(raw), shift


class Inverted(nn.Module):
    """A transform the other way round.

    Arguments:
        transform: Has `forward` and `inverse` to `(value, log_det)`.
    """

    def __init__(self, transform: nn.Module) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return what the transform's inverse gives."""
        result: tuple[Tensor, Tensor] = self.transform.inverse(x, context)  # type: ignore[operator]
        return result

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return what the transform gives."""
        result: tuple[Tensor, Tensor] = self.transform(y, context)
        return result
