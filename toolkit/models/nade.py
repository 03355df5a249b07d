"""NADE: each pixel's logit from hidden units that read the pixels before it, by a running sum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from toolkit.core.entry import Autoregressive, Entry, Input
from toolkit.models import _categorical
from toolkit.models._size import is_full
from toolkit.nn.nade import NADELayer


class NADE(nn.Module):
    """Model a vector of zeros and ones, one element after the other.

    Arguments:
        features: Length of the vector (784 for MNIST).
        hidden: Number of hidden units.
        size: `given` takes the other arguments; `full` takes the paper's 500 hidden units.

    Raises:
        UsageError: The size is no known one.

    References:
        Neural Autoregressive Distribution Estimation, 2016, arXiv 1605.02226, section 2.
    """

    family: ClassVar[str] = "autoregressive"

    def __init__(self, *, features: int = 64, hidden: int = 64, size: str = "given") -> None:
        super().__init__()
        self.features = features
        self.layer = NADELayer(features, 500 if is_full(size) else hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of zero and one, `(batch, features, 2)` of `(batch, features)`."""
        logit: Tensor = self.layer(x)
        return F.pad(logit.unsqueeze(2), (1, 0))

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-probability of each vector in nats, `(batch,)`."""
        return _categorical.bernoulli_log_prob(self.layer(x), x)

    @torch.no_grad()
    def sample(self, noise: Tensor) -> Tensor:
        """Draw vectors element by element, each at a cost of `hidden` products.

        Arguments:
            noise: Standard Gumbel noise `(features, batch, 2)`.

        Returns:
            Zeros and ones, int64 `(batch, features)`.
        """
        state, bits = self.layer.init_state(noise.shape[1]), []
        for zero, one in (now.unbind(1) for now in noise):
            bit = self.layer.past(state) + one > zero
            bits.append(bit)
            _, state = self.layer.step(bit.to(noise.dtype), state)
        return torch.stack(bits, 1).long()

    def entries(self) -> Sequence[Entry | Autoregressive]:
        """Return `log_prob` of a vector, and how a vector is sampled."""
        example = _categorical.drawn((_categorical.EXAMPLES, self.features), 2).float()
        x = Input("x", example, dims=("batch", None))
        sampler = _categorical.sequence_sampler(x, 2, lambda bit: bit.to(example.dtype))
        return [_categorical.log_prob_entry(x), sampler]


model = NADE
