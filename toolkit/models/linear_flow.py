"""Linear flow: noise is one matrix times the data."""

from __future__ import annotations

from typing import ClassVar

from toolkit.core.entry import Entry
from toolkit.models._flow import flow_entries
from toolkit.nn.flow import Flow
from toolkit.nn.linear import InvertibleLinear


class LinearFlow(Flow):
    """A normal density with any mean and covariance: `z = A x + b`.

    At its optimum `A` whitens the data: `Aᵀ A` is the inverse of their covariance. `log|det A|`
    depends on the weights alone; an export evaluates it once.

    Arguments:
        features: Length of a vector.
    """

    family: ClassVar[str] = "flow"

    def __init__(self, *, features: int = 13) -> None:
        super().__init__(InvertibleLinear(features))
        self.features = features

    def entries(self) -> list[Entry]:
        """Return `log_prob`, `inverse` and `sample`."""
        return flow_entries((self.features,), (self.features,))


model = LinearFlow
