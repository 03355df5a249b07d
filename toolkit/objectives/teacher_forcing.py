"""Cross-entropy of a sequence given what it is made from, each token after the true ones."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as F

END = 0


def objective(model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the cross-entropy per token as `loss` in nats, and `exact` in percent.

    Tokens up to a sequence's first end mark, token 0, count. `exact` is the share of sequences
    whose every token is the likeliest one: what greedy decoding would give back unchanged.

    Arguments:
        model: Maps `x` and the target to logits `(batch, time, tokens)`, those of a token being
            given the tokens before it.
        batch: `x`, and `target` of shape `(batch, time)`.
    """
    target = batch["target"]
    logits = model(batch["x"], target)
    counts = ((target == END).cumsum(1) - (target == END).long()) == 0
    nats = F.cross_entropy(logits.transpose(1, 2), target, reduction="none")
    right = (logits.argmax(2) == target) | ~counts
    return {
        "loss": (nats * counts).sum() / counts.sum(),
        "exact": 100 * right.all(1).float().mean(),
    }
