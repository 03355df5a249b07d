"""What MAF and IAF share: masked affine transforms in a row, every second one backwards."""

from __future__ import annotations

from typing import ClassVar

from toolkit.core.entry import Entry
from toolkit.models._flow import flow_entries
from toolkit.nn.autoregressive import Inverted, MaskedAffine
from toolkit.nn.flow import Chain, Flow


class MaskedFlow(Flow):
    """A density over vectors by autoregressive transforms.

    Arguments:
        features: Length of a vector; 2 or more.
        depth: Number of transforms; every second one goes from the last feature to the first.
        hidden: Units of each hidden layer of a transform's masked network.
        layers: Number of its hidden layers.
        inverted: Whether samples, not densities, take one pass.

    Raises:
        UsageError: There are too few features or hidden units.
    """

    family: ClassVar[str] = "flow"

    def __init__(
        self, features: int, depth: int, hidden: int, layers: int, *, inverted: bool
    ) -> None:
        steps = [
            MaskedAffine(features, hidden=hidden, layers=layers, reverse=index % 2 == 1)
            for index in range(depth)
        ]
        super().__init__(Chain(map(Inverted, steps) if inverted else steps))
        self.features = features

    def entries(self) -> list[Entry]:
        """Return `log_prob`, `inverse` and `sample`."""
        return flow_entries((self.features,), (self.features,))
