"""MAF: masked autoregressive flow, density in one pass, samples feature by feature."""

from __future__ import annotations

from toolkit.models._masked import MaskedFlow
from toolkit.models._size import is_full


class MAF(MaskedFlow):
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
        super().__init__(features, depth, hidden, layers, inverted=False)


model = MAF
