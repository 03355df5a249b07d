"""The perceptron criterion: how far the winning class lies above the true one."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn


def objective(model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the mean of `max_j s_j - s_label` as `loss`, and `accuracy` in percent.

    Its gradient is the perceptron rule: a wrong sample moves the scores of its class and of the
    winner, a right one moves nothing.

    Arguments:
        model: Maps `x` to scores `(batch, classes)`.
        batch: `x`, and `label` of shape `(batch,)`.
    """
    scores, label = model(batch["x"]), batch["label"]
    top, winner = scores.max(1)
    loss = (top - scores.gather(1, label[:, None])[:, 0]).mean()
    return {"loss": loss, "accuracy": 100 * (winner == label).float().mean()}
