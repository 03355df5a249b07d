"""Cross-entropy of a classifier, with its accuracy in percent."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as F


def objective(model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the cross-entropy as `loss` in nats and `accuracy` in percent.

    Arguments:
        model: Maps `x` to logits `(batch, classes)`.
        batch: `x`, and `label` of shape `(batch,)`.
    """
    logits, label = model(batch["x"]), batch["label"]
    accuracy = 100 * (logits.argmax(1) == label).float().mean()
    return {"loss": F.cross_entropy(logits, label), "accuracy": accuracy}
