"""i-flow: spline couplings of the unit cube that integrate by importance sampling."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from torch import Tensor

from toolkit.core.entry import Entry
from toolkit.core.errors import UsageError
from toolkit.models._flow import flow_entries
from toolkit.nn.flow import Chain, Flow
from toolkit.nn.integrands import CENTRES, log_integrand
from toolkit.nn.spline_coupling import (
    Linear,
    Quadratic,
    RationalQuadratic,
    Spline,
    SplineCoupling,
)

SPLINES: Mapping[str, Callable[[int], Spline]] = {
    "linear": Linear,
    "quadratic": Quadratic,
    "rational-quadratic": RationalQuadratic,
}


class IFlow(Flow):
    """A density on the unit cube, of uniform noise, that learns the shape of an integrand.

    The couplings are as few as let every feature depend on every other: those whose index has a
    one in its k-th binary digit move the rest, and the other way round, for every digit.

    Arguments:
        features: Dimensions of the cube; 2 or more, in the paper up to 16.
        integrand: `gaussian` or `camel`.
        spline: `linear`, `quadratic` or `rational-quadratic`.
        bins: Bins of every spline.
        hidden: Features of the hidden layers of a coupling's perceptron.
        layers: Number of its hidden layers.

    Raises:
        UsageError: There is no such integrand or spline, or one feature is too few.

    References:
        i-flow: High-dimensional Integration and Sampling with Normalizing Flows, arXiv 2001.05486.
    """

    family: ClassVar[str] = "flow"

    def __init__(
        self,
        *,
        features: int = 4,
        integrand: str = "camel",
        spline: str = "quadratic",
        bins: int = 8,
        hidden: int = 32,
        layers: int = 2,
    ) -> None:
        if integrand not in CENTRES or spline not in SPLINES or features < 2:
            raise UsageError(
                f"iflow(features={features}, integrand={integrand!r}, spline={spline!r}) "
                "is out of range",
                where="iflow",
                next_step=f"integrands: {', '.join(CENTRES)}; splines: {', '.join(SPLINES)}; "
                "2 features or more",
            )
        super().__init__(
            Chain(
                SplineCoupling(SPLINES[spline](bins), moved, hidden=hidden, layers=layers)
                for moved in _moved(features)
            )
        )
        self.features = features
        self.integrand = integrand

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-density of `x`, `(batch, features)` in [0, 1], in nats: `(batch,)`."""
        return self.forward(x)[1]

    def log_integrand(self, x: Tensor) -> Tensor:
        """Return the logarithm of the integrand, `(batch,)`."""
        return log_integrand(self.integrand, x)

    def integrate(self, noise: Tensor) -> Tensor:
        """Return integrand over density at the samples of uniform `noise`, `(batch,)`.

        Their mean estimates the integral; their deviation over the root of their number is the
        estimate's uncertainty.
        """
        x, log_det = self.inverse(noise)
        return torch.exp(self.log_integrand(x) + log_det)

    def entries(self) -> list[Entry]:
        """Return `log_prob`, `inverse`, `sample` and `integrate`."""
        shape = (self.features,)
        entries = flow_entries(shape, shape, law="uniform", interval=(0.0, 1.0))
        (noise,) = next(entry for entry in entries if entry.name == "sample").inputs
        return [*entries, Entry("integrate", "integrate", [noise], ["weight"])]


def _moved(features: int) -> list[list[bool]]:
    digits = range((features - 1).bit_length())
    return [
        [(feature >> digit & 1 == 1) == one for feature in range(features)]
        for digit in digits
        for one in (True, False)
    ]


model = IFlow
