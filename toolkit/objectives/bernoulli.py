"""Negative log-likelihood of one Bernoulli law per class, for sigmoid heads."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as F


def objective(model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the binary cross-entropies, summed over the classes, as `loss` in nats.

    `accuracy`, in percent, is that of the class with the largest logit.

    Arguments:
        model: Maps `x` to logits `(batch, classes)`.
        batch: `x`, and `label` of shape `(batch,)`, the one class that is present.
    """
    logits, label = model(batch["x"]), batch["label"]
    present = F.one_hot(label, logits.shape[1]).to(logits.dtype)
    loss = F.binary_cross_entropy_with_logits(logits, present, reduction="none").sum(1).mean()
    return {"loss": loss, "accuracy": 100 * (logits.argmax(1) == label).float().mean()}
