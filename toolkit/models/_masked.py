"""What MAF and IAF share: masked affine transforms in a row, every second one backwards."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from toolkit.core.entry import Entry
from toolkit.models._flow import flow_entries
from toolkit.nn.autoregressive import Inverted, MaskedAffine
from toolkit.nn.flow import Chain, Flow
from toolkit.nn.made import MADE, MaskedLinear

# A graph repeats whole passes until no feature moves, some ten times, or solves feature by feature.
# The former costs weights, the latter operators. Measured at batches 1 / 16 / 64 of 64 features,
# solving takes 1.6 / 0.75 / 0.5 of the passes' time at 5632 weights per feature, and
# 3.5 / 1.8 / 1.0 at 1792; at 26 features and 350 weights 2.7 / 2.3 / 1.7.
WIDE = 4000
"""Weights of a masked network per feature from which a graph solves."""


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
        self.features, self.inverted = features, inverted

    def entries(self) -> list[Entry]:
        """Return `log_prob`, `inverse` and `sample`.

        Where an entry inverts wide masked networks, eager's passes are the plain form of a graph
        that solves feature by feature.
        """
        entries = flow_entries((self.features,), (self.features,))
        if self.weights < WIDE * self.features:
            return entries
        passes = ("log_prob",) if self.inverted else ("inverse", "sample")
        return [
            replace(entry, reference=entry.call) if entry.name in passes else entry
            for entry in entries
        ]

    @property
    def weights(self) -> int:
        """Weights of one transform's masked network."""
        first, *_ = (part for part in self.modules() if isinstance(part, MADE))
        return sum(layer.weight.numel() for layer in first if isinstance(layer, MaskedLinear))
