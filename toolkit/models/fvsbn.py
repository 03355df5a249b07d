"""Fully visible sigmoid belief network: each pixel's logit is linear in the pixels before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from toolkit.core.entry import Autoregressive, Entry, Input
from toolkit.models import _categorical
from toolkit.nn.nade import TriangularLinear


class FVSBN(nn.Module):
    """Model a vector of zeros and ones, one element after the other.

    Arguments:
        features: Length of the vector (784 for MNIST).

    References:
        Does the Wake-Sleep Algorithm Produce Good Density Estimators?, Frey, Hinton and Dayan,
        1996; Connectionist Learning of Belief Networks, Neal, 1992.
    """

    family: ClassVar[str] = "autoregressive"

    def __init__(self, *, features: int = 64) -> None:
        super().__init__()
        self.features = features
        self.linear = TriangularLinear(features)
        nn.init.zeros_(self.linear.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of zero and one, `(batch, features, 2)` of `(batch, features)`."""
        logit: Tensor = self.linear(x)
        return F.pad(logit.unsqueeze(2), (1, 0))

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-probability of each vector in nats, `(batch,)`."""
        return _categorical.bernoulli_log_prob(self.linear(x), x)

    def sample(self, noise: Tensor) -> Tensor:
        """Draw vectors by one whole forward pass per element.

        Arguments:
            noise: Standard Gumbel noise `(features, batch, 2)`.

        Returns:
            Zeros and ones, int64 `(batch, features)`.
        """
        return _categorical.draw_sequence(self, noise, lambda bit: bit.to(noise.dtype))

    def entries(self) -> Sequence[Entry | Autoregressive]:
        """Return `log_prob` of a vector, and how a vector is sampled."""
        example = _categorical.drawn((_categorical.EXAMPLES, self.features), 2).float()
        x = Input("x", example, dims=("batch", None))
        sampler = _categorical.sequence_sampler(x, 2, lambda bit: bit.to(example.dtype))
        return [_categorical.log_prob_entry(x), sampler]


model = FVSBN
