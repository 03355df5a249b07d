"""MADE: masked linear layers whose outputs for one feature read only earlier features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch._higher_order_ops.scan import scan_op
from torch.nn import functional as F

from toolkit.core.errors import UsageError

Update = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class MaskedLinear(nn.Linear):
    """A linear layer whose weight is multiplied by a constant mask.

    Arguments:
        mask: Zeros and ones, `(features_out, features_in)`.
    """

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        features_out, features_in = mask.shape
        super().__init__(features_in, features_out)
        self.register_buffer("mask", mask)

    def masked_weight(self) -> Tensor:
        """Return the weight with zeros where the mask has them, `(features_out, features_in)`."""
        return self.weight * self.mask

    def forward(self, x: Tensor) -> Tensor:
        """Return `(…, features_out)` of `(…, features_in)`."""
        return F.linear(x, self.masked_weight(), self.bias)


class MADE(nn.Sequential):
    """Numbers for every feature, computed from the features before it.

    The last layer starts at zero. Every unit has a degree. A hidden unit reads units of its own
    degree or less, an output units of less: it reaches no feature but those before its own.

    Arguments:
        features: Length of a vector; 2 or more.
        outputs: Numbers per feature; all features' first ones come first.
        hidden: Units of every hidden layer.
        layers: Number of hidden layers.
        reverse: Whether the last feature is the first in order.

    Raises:
        UsageError: There are too few features or hidden units for a mask to let any feature
            reach another.

    References:
        MADE: Masked Autoencoder for Distribution Estimation, arXiv 1502.03509.
    """

    def __init__(
        self, features: int, outputs: int, *, hidden: int, layers: int, reverse: bool = False
    ) -> None:
        if features < 2 or hidden < features - 1 or layers < 1:
            raise UsageError(
                f"MADE(features={features}, hidden={hidden}, layers={layers}) leaves a feature out",
                next_step="take 2 features or more, a hidden unit for each but one, and a layer",
            )
        order = torch.arange(1, features + 1)
        order = order.flip(0) if reverse else order
        within = torch.arange(hidden) % (features - 1) + 1
        degrees = [order, *[within] * layers]
        parts: list[nn.Module] = []
        for before, after in pairwise(degrees):
            parts += [MaskedLinear((after[:, None] >= before).float()), nn.ReLU()]
        last = MaskedLinear((order.repeat(outputs)[:, None] > degrees[-1]).float())
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        super().__init__(*parts, last)
        self.features, self.outputs, self.reverse = features, outputs, reverse

    def solve(self, given: Tensor, update: Update) -> tuple[Tensor, Tensor]:
        """Return the vector each feature of which follows from its numbers: one pass in all.

        Like a triangular system: a feature, once it is known, is added to the sums of the units
        that read it; then the units of its degree are complete, and are added to the next layer's.

        Arguments:
            given: What else each feature follows from, `(batch, features)`.
            update: `given` of a feature, `(batch, 1)`, and its numbers, `(batch, outputs)`, to
                the feature and to anything else of it, `(batch, 1)` each.

        Returns:
            The features and whatever else, `(batch, features)` each.
        """
        batch = given.shape[0]
        starts, tables, places = self._tables()
        entries = (given.flip(1) if self.reverse else given).T.unsqueeze(2)

        def step(*values: Tensor) -> list[Tensor]:
            sums, (here, *rest) = list(values[: len(starts)]), values[len(starts) :]
            weights, reads = rest[: len(starts)], rest[len(starts) :]
            x, other = update(here, sums[-1].index_select(1, reads[-1]))
            value = x
            for number, weight in enumerate(weights):
                sums[number] = torch.addmm(sums[number], value, weight)
                if number + 1 < len(sums):
                    value = torch.relu(sums[number].index_select(1, reads[0]))
            return [*sums, x.clone(), other.clone()]

        first = [start.expand(batch, -1).clone() for start in starts]
        found = _scanned(step, first, [entries, *tables, *places])
        x, other = (value.squeeze(2).T for value in found)
        return (x.flip(1), other.flip(1)) if self.reverse else (x, other)

    def _tables(self) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Return first sums, weights of each step, and the places of what it completes.

        Units stand in blocks of one degree, filled up to one length by units without weights; a
        last block is empty, since the last feature is read by none.
        """
        layers = [layer for layer in self if isinstance(layer, MaskedLinear)]
        starts, tables = [], []
        for number, layer in enumerate(layers):
            weight, bias = layer.masked_weight(), layer.bias.unsqueeze(1)
            weight = self._ordered(weight.T) if number == 0 else self._blocks(weight.T)
            last = number + 1 == len(layers)
            place = self._interleaved if last else self._blocks
            starts.append(place(bias).T)
            tables.append(place(weight.T).T.reshape(self.features, -1, starts[-1].shape[1]))
        steps = torch.arange(self.features, device=starts[0].device).unsqueeze(1)
        sizes = (starts[0].shape[1] // self.features, self.outputs)
        places = [steps * n + torch.arange(n, device=steps.device) for n in sizes]
        return starts, tables, places

    def _ordered(self, rows: Tensor) -> Tensor:
        """Return rows of features, the first in order first."""
        return rows.flip(0) if self.reverse else rows

    def _interleaved(self, rows: Tensor) -> Tensor:
        """Return rows of outputs, all of a feature's together."""
        by_number = rows.reshape(self.outputs, self.features, -1)
        ordered = by_number.flip(1) if self.reverse else by_number
        return ordered.transpose(0, 1).reshape(self.outputs * self.features, -1)

    def _blocks(self, rows: Tensor) -> Tensor:
        """Return rows of hidden units in blocks of one degree, one block per feature."""
        degrees, units = self.features - 1, rows.shape[0]
        most = -(-units // degrees)
        padded = F.pad(rows, (0, 0, 0, most * degrees - units))
        blocks = padded.reshape(most, degrees, -1).transpose(0, 1)
        return F.pad(blocks, (0, 0, 0, 0, 0, 1)).reshape(most * self.features, -1)


def _scanned(
    step: Callable[..., list[Tensor]], states: Sequence[Tensor], entries: Sequence[Tensor]
) -> list[Tensor]:
    """Return a step's results, stacked: of one `scan` in a captured graph, of a loop in eager."""
    if torch.compiler.is_exporting():
        return list(scan_op(step, list(states), list(entries), ()))[len(states) :]
    carried, results = list(states), []
    for now in zip(*entries, strict=True):
        found = step(*carried, *now)
        carried = found[: len(carried)]
        results.append(found[len(carried) :])
    return [torch.stack(column) for column in zip(*results, strict=True)]
