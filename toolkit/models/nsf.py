"""Neural spline flow: couplings by rational-quadratic or piecewise-quadratic splines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

from torch import nn

from toolkit.core.entry import Entry
from toolkit.core.errors import UsageError
from toolkit.models._flow import flow_entries
from toolkit.models._size import is_full
from toolkit.nn.flow import Chain, Flow
from toolkit.nn.linear import InvertibleLinear
from toolkit.nn.spline_coupling import Quadratic, RationalQuadratic, Spline, SplineCoupling

SPLINES: Mapping[str, Callable[[int, float], Spline]] = {
    "rational-quadratic": RationalQuadratic,
    "quadratic": Quadratic,
}


class NSF(Flow):
    """A density over vectors by spline couplings, an invertible linear map in front of each.

    Every second feature is transformed. Outside of `±bound` the couplings are the identity.

    Arguments:
        features: Length of a vector; 2 or more.
        spline: `rational-quadratic` or `quadratic`.
        depth: Number of couplings.
        bins: Bins of every spline.
        bound: Half the length of the interval in which the splines act.
        hidden: Features of the hidden layers of a coupling's perceptron.
        layers: Number of its hidden layers.
        size: `given` takes the other arguments; `full` takes the paper's ten couplings of 8 bins,
            with four layers of 256 (POWER, of 6 features).

    Raises:
        UsageError: There is no such spline or size, or one feature is too few.

    References:
        Neural Spline Flows, arXiv 1906.04032.
    """

    family: ClassVar[str] = "flow"

    def __init__(
        self,
        *,
        features: int = 2,
        spline: str = "rational-quadratic",
        depth: int = 4,
        bins: int = 8,
        bound: float = 3.0,
        hidden: int = 64,
        layers: int = 2,
        size: str = "given",
    ) -> None:
        if is_full(size):
            depth, bins, bound, hidden, layers = 10, 8, 3.0, 256, 4
        if spline not in SPLINES or bound <= 0:
            raise UsageError(
                f"nsf(spline={spline!r}, bound={bound}) is out of range",
                where="nsf",
                next_step=f"known splines: {', '.join(SPLINES)}; the bound is positive",
            )
        steps: list[nn.Module] = []
        for index in range(depth):
            moved = [(feature + index) % 2 == 0 for feature in range(features)]
            steps += [
                InvertibleLinear(features),
                SplineCoupling(SPLINES[spline](bins, bound), moved, hidden=hidden, layers=layers),
            ]
        super().__init__(Chain(steps))
        self.features = features

    def entries(self) -> list[Entry]:
        """Return `log_prob`, `inverse` and `sample`."""
        return flow_entries((self.features,), (self.features,))


model = NSF
