"""MADE: masked linear layers whose outputs for one feature read only earlier features."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from toolkit.core.errors import UsageError


class MaskedLinear(nn.Linear):
    """A linear layer whose weight is multiplied by a constant mask.

    Arguments:
        mask: Zeros and ones, `(features_out, features_in)`.
    """

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        features_out, features_in = mask.shape
        super().__init__(features_in, features_out)
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        """Return `(…, features_out)` of `(…, features_in)`."""
        return F.linear(x, self.weight * self.mask, self.bias)


class MADE(nn.Sequential):
    """Numbers for every feature, computed from the features before it.

    The last layer starts at zero. Every unit has a degree. A hidden unit reads units of its own
    degree or less, an output units of less: it reaches no feature but those before its own.

    Arguments:
        features: Length of a vector; 2 or more.
        outputs: Numbers per feature; all features' first ones come first.
        hidden: Units of every hidden layer.
        layers: Number of hidden layers.
        reverse: Whether the last feature is the first in order.

    Raises:
        UsageError: There are too few features or hidden units for a mask to let any feature
            reach another.

    References:
        MADE: Masked Autoencoder for Distribution Estimation, arXiv 1502.03509.
    """

    def __init__(
        self, features: int, outputs: int, *, hidden: int, layers: int, reverse: bool = False
    ) -> None:
        if features < 2 or hidden < features - 1 or layers < 1:
            raise UsageError(
                f"MADE(features={features}, hidden={hidden}, layers={layers}) leaves a feature out",
                next_step="take 2 features or more, a hidden unit for each but one, and a layer",
            )
        order = torch.arange(1, features + 1)
        order = order.flip(0) if reverse else order
        within = torch.arange(hidden) % (features - 1) + 1
        degrees = [order, *[within] * layers]
        parts: list[nn.Module] = []
        for before, after in pairwise(degrees):
            parts += [MaskedLinear((after[:, None] >= before).float()), nn.ReLU()]
        last = MaskedLinear((order.repeat(outputs)[:, None] > degrees[-1]).float())
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        super().__init__(*parts, last)
