"""RealNVP: affine couplings on vectors."""

from __future__ import annotations

from typing import ClassVar

from toolkit.core.entry import Entry
from toolkit.core.errors import UsageError
from toolkit.models._flow import flow_entries
from toolkit.nn.coupling import AffineCoupling
from toolkit.nn.flow import Chain, Flow
from toolkit.nn.networks import Perceptron


class RealNVP(Flow):
    """A density over vectors by affine couplings that transform either half in turn.

    Arguments:
        features: Length of a vector; even.
        depth: Number of couplings.
        hidden: Features of the hidden layers of a coupling's perceptron.
        layers: Number of its hidden layers.

    Raises:
        UsageError: The vector cannot be halved.

    References:
        Density estimation using Real NVP, arXiv 1605.08803.
    """

    family: ClassVar[str] = "flow"

    def __init__(
        self, *, features: int = 2, depth: int = 8, hidden: int = 64, layers: int = 2
    ) -> None:
        half, rest = divmod(features, 2)
        if rest or half < 1:
            raise UsageError(
                f"features = {features} cannot be halved",
                where="realnvp",
                next_step="take an even number of features, 2 or more",
            )
        super().__init__(
            Chain(
                AffineCoupling(
                    Perceptron(half, 2 * half, hidden=hidden, layers=layers),
                    scale="exponential",
                    swap=index % 2 == 1,
                )
                for index in range(depth)
            )
        )
        self.features = features

    def entries(self) -> list[Entry]:
        """Return `log_prob`, `inverse` and `sample`."""
        return flow_entries((self.features,), (self.features,))


model = RealNVP
