"""Max pools that remember where each maximum stood, and their reverse, by comparisons alone."""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor

WINDOW = 2


def max_pool_with_places(x: Tensor) -> tuple[Tensor, Tensor]:
    """Pool windows of 2x2 and remember the first largest pixel of each.

    Arguments:
        x: `(batch, channels, height, width)`, both sides even.

    Returns:
        The maxima `(batch, channels, height / 2, width / 2)`, and a mask of the shape of `x` that
        is one where they stood.
    """
    corners = [x[:, :, row::WINDOW, column::WINDOW] for row in (0, 1) for column in (0, 1)]
    largest = reduce(torch.maximum, corners)
    places, free = [], torch.ones_like(largest)
    for corner in corners:
        place = torch.where(corner == largest, free, torch.zeros_like(free))
        places.append(place)
        free = free - place
    return largest, _interleaved(places)


def max_unpool(x: Tensor, places: Tensor) -> Tensor:
    """Put every pixel back where the maximum of its window stood, with zeros around it.

    Arguments:
        x: `(batch, channels, height, width)`.
        places: What `max_pool_with_places` remembered, `(batch, channels, 2 height, 2 width)`.
    """
    return _interleaved([x] * WINDOW**2) * places


def _interleaved(corners: list[Tensor]) -> Tensor:
    """Return the picture whose 2x2 windows have these corners, row by row."""
    rows = [torch.stack(corners[i : i + WINDOW], -1).flatten(3) for i in (0, WINDOW)]
    return torch.stack(rows, 3).flatten(2, 3)
