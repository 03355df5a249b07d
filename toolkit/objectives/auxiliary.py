"""Cross-entropy of a classifier plus that of auxiliary heads, which only training has."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as F

WEIGHT = 0.3


def objective(model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return `loss` in nats, the last head's plus 0.3 times the others', and `accuracy` in %.

    Arguments:
        model: Maps `x` to logits `(batch, classes)`, or to a tuple of them: the last head's, then
            the auxiliary ones'.
        batch: `x`, and `label` of shape `(batch,)`.

    References:
        Going Deeper with Convolutions, arXiv 1409.4842, section 5.
    """
    result, label = model(batch["x"]), batch["label"]
    logits, *others = result if isinstance(result, tuple) else (result,)
    loss = F.cross_entropy(logits, label)
    for other in others:
        loss = loss + WEIGHT * F.cross_entropy(other, label)
    return {"loss": loss, "accuracy": 100 * (logits.argmax(1) == label).float().mean()}
