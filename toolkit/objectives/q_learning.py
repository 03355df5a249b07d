"""Huber loss of the temporal difference between a Q network and its slower target network."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def objective(model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the Huber loss of `r + γ V(s') − Q(s, a)` as `loss`; there is no V after the end.

    `td_error` is the mean of the difference's absolute value. In training the target network
    first takes one step towards the network.

    Arguments:
        model: Maps states to Q values `(batch, actions)`; has `target_value(next)`, `(batch,)`,
            `follow()` and `discount` γ.
        batch: States `x` and `next`; `action`, `reward` and `done`, `(batch,)` each.

    References:
        Human-level control through deep reinforcement learning, Mnih et al., Nature 518 (2015),
        529-533; Playing Atari with Deep Reinforcement Learning, arXiv 1312.5602.
    """
    if model.training:
        model.follow()  # type: ignore[operator]
    with torch.no_grad():
        future = model.target_value(batch["next"])  # type: ignore[operator]
        wanted = batch["reward"] + model.discount * future * ~batch["done"]
    taken = model(batch["x"]).gather(1, batch["action"][:, None])[:, 0]
    return {
        "loss": F.smooth_l1_loss(taken, wanted),
        "td_error": (taken.detach() - wanted).abs().mean(),
    }
