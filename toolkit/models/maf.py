"""MAF: masked autoregressive flow, density in one pass, samples feature by feature."""

from __future__ import annotations

from typing import ClassVar

from toolkit.core.entry import Entry
from toolkit.models._categorical import is_full
from toolkit.models._flow import flow_entries
from toolkit.nn.autoregressive import MaskedAffine
from toolkit.nn.flow import Chain, Flow


class MAF(Flow):
    """A density over vectors; each feature is normal, given the data before it, in every transform.

    `log_prob` evaluates every masked network once. `inverse` and `sample` evaluate it once per
    feature: an export writes them as loops.

    Arguments:
        features: Length of a vector; 2 or more.
        depth: Number of autoregressive transforms; every second one goes from the last feature to
            the first.
        hidden: Units of each hidden layer of a transform's masked network.
        layers: Number of its hidden layers.
        size: `given` takes the other arguments; `full` takes the paper's ten transforms of
            two layers of 512 (BSDS300, of 63 features).

    Raises:
        UsageError: There are too few features or hidden units, or the size is no known one.

    References:
        Masked Autoregressive Flow for Density Estimation, arXiv 1705.07057.
    """

    family: ClassVar[str] = "flow"

    def __init__(
        self,
        *,
        features: int = 26,
        depth: int = 4,
        hidden: int = 64,
        layers: int = 2,
        size: str = "given",
    ) -> None:
        if is_full(size):
            depth, hidden, layers = 10, 512, 2
        super().__init__(
            Chain(
                MaskedAffine(features, hidden=hidden, layers=layers, reverse=index % 2 == 1)
                for index in range(depth)
            )
        )
        self.features = features

    def entries(self) -> list[Entry]:
        """Return `log_prob`, `inverse` and `sample`."""
        return flow_entries((self.features,), (self.features,))


model = MAF
