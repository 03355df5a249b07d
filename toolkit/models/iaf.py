"""IAF: inverse autoregressive flow, samples in one pass, density feature by feature."""

from __future__ import annotations

from toolkit.models._masked import MaskedFlow
from toolkit.models._size import is_full


class IAF(MaskedFlow):
    """A density over vectors; each feature is shifted and scaled, given the noise before it.

    `inverse` and `sample` evaluate every masked network once. `log_prob` evaluates it once per
    feature: an export writes it as loops.

    Arguments:
        features: Length of a vector; 2 or more.
        depth: Number of autoregressive transforms; every second one goes from the last feature to
            the first.
        hidden: Units of each hidden layer of a transform's masked network.
        layers: Number of its hidden layers.
        size: `given` takes the other arguments; `full` takes the paper's eight transforms of
            two layers of 1920.

    Raises:
        UsageError: There are too few features or hidden units, or the size is no known one.

    References:
        Improving Variational Inference with Inverse Autoregressive Flow, arXiv 1606.04934.
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
            depth, hidden, layers = 8, 1920, 2
        super().__init__(features, depth, hidden, layers, inverted=True)


model = IAF
