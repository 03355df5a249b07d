"""Negative log-likelihood of a density model, also in bits per dimension."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor, nn


def objective(model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the mean negative log-likelihood as `loss` in nats, and `bits_per_dim`.

    A density over dequantised data says how wide one of its levels is (`model.bin_width`): the
    bits are then those of the discrete data.

    Arguments:
        model: Has `log_prob(x)` in nats, of shape `(batch,)`.
        batch: `x`.
    """
    x = batch["x"]
    loss = -model.log_prob(x).mean()  # type: ignore[operator]
    bin_width = float(getattr(model, "bin_width", 1.0))
    nats_per_dim = loss / math.prod(x.shape[1:]) - math.log(bin_width)
    return {"loss": loss, "bits_per_dim": nats_per_dim / math.log(2)}
