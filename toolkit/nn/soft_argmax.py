"""Soft-argmax: the mean place of a heat map, which gradients pass through."""

from __future__ import annotations

import torch
from torch import Tensor


def heat_maps(scores: Tensor) -> Tensor:
    """Return scores as probabilities of each map's cells; both `(batch, maps, height, width)`."""
    return scores.flatten(2).softmax(2).reshape(scores.shape)


def mean_places(maps: Tensor) -> Tensor:
    """Return the mean place of each map, `(batch, maps, 2)`: first x to the right, then y down.

    The unit is a cell's side; the first cell's middle is at one half.

    Arguments:
        maps: Probabilities, `(batch, maps, height, width)`.

    References:
        Integral Human Pose Regression, arXiv 1711.08229.
    """
    across, down = maps.sum(2), maps.sum(3)
    return torch.stack([(shares * _middles(shares)).sum(2) for shares in (across, down)], 2)


def _middles(shares: Tensor) -> Tensor:
    return torch.arange(shares.shape[2], dtype=shares.dtype, device=shares.device) + 0.5
