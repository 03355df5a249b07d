"""Cross-entropy of every pixel, with the accuracy and the mean intersection over union."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as F


def objective(model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the mean cross-entropy as `loss` in nats, `accuracy` and `mean_iou` in percent.

    The mean intersection over union is taken over the classes that the labels hold.

    Arguments:
        model: Maps `x` to logits `(batch, classes, height, width)`.
        batch: `x`, and `label` of shape `(batch, height, width)`.
    """
    logits, label = model(batch["x"]), batch["label"]
    chosen = logits.argmax(1)
    return {
        "loss": F.cross_entropy(logits, label),
        "accuracy": 100 * (chosen == label).float().mean(),
        "mean_iou": 100 * _mean_iou(chosen, label, logits.shape[1]),
    }


def _mean_iou(chosen: Tensor, label: Tensor, classes: int) -> Tensor:
    pairs = label.flatten() * classes + chosen.flatten()
    table = pairs.bincount(minlength=classes**2).reshape(classes, classes)
    held = table.sum(1)
    both = table.diagonal()
    share = both / (held + table.sum(0) - both).clamp(min=1)
    return share[held > 0].mean()
