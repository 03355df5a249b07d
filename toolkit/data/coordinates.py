"""Pixels of a sample photograph as points of the plane with their colours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toolkit.core.errors import UsageError
from toolkit.core.protocols import Data
from toolkit.data.photos import HEIGHT, WIDTH

if TYPE_CHECKING:
    from torch import Tensor

PHOTOS = ("china", "flower")


def dataset(
    *,
    photo: str = "flower",
    size: int = 128,
    top: int = 50,
    left: int = 200,
    shrink: int = 2,
    seed: int = 0,
) -> Data:
    """Give a square of one of scikit-learn's two photographs, pixel by pixel.

    `x` is `(samples, 2)`: row, then column, -1 the top and left edges, 1 the bottom and right
    ones, pixels at their centres. `value` is the colour there, `(samples, 3)`, `level / 255`.
    Held out is a regular quarter: one pixel of every square of two by two.

    Arguments:
        photo: `china`, a palace, or `flower`.
        size: Height and width of the square, in pixels; even.
        top: Row of the photograph where the square starts.
        left: Column where it starts.
        shrink: How many pixels of the photograph, both ways, are averaged into one.
        seed: Which pixel of the two by two is held out: the seed's remainder by four.

    Raises:
        UsageError: There is no such photograph, or the square does not lie within it.
    """
    picture = square(photo=photo, size=size, top=top, left=left, shrink=shrink)
    x = grid(size)
    held = _held_out(size, seed)
    value = picture.reshape(-1, 3)
    return Data(
        train={"x": x[~held], "value": value[~held]}, test={"x": x[held], "value": value[held]}
    )


def square(*, photo: str, size: int, top: int, left: int, shrink: int) -> Tensor:
    """Return the square of a photograph, `(size, size, 3)` in [0, 1]; see `dataset`.

    Raises:
        UsageError: There is no such photograph, or the square does not lie within it.
    """
    import torch
    from sklearn.datasets import load_sample_image

    taken = size * shrink
    inside = min(top, left) >= 0 and top + taken <= HEIGHT and left + taken <= WIDTH
    if photo not in PHOTOS or size < 2 or size % 2 or shrink < 1 or not inside:
        raise UsageError(
            f"coordinates(photo={photo!r}, size={size}, top={top}, left={left}, shrink={shrink}) "
            "is out of range",
            where="[data] of the recipe",
            next_step=f"photographs: {', '.join(PHOTOS)}; size is even, and the square of "
            f"size x shrink lies within {HEIGHT}x{WIDTH}",
        )
    levels = torch.tensor(load_sample_image(f"{photo}.jpg"))[top : top + taken, left : left + taken]
    return levels.reshape(size, shrink, size, shrink, 3).float().mean((1, 3)) / 255


def grid(size: int) -> Tensor:
    """Return the centres of a square of pixels, row by row, `(size², 2)` in [-1, 1]."""
    import torch

    centres = (2 * torch.arange(size) + 1) / size - 1
    return torch.cartesian_prod(centres, centres)


def _held_out(size: int, seed: int) -> Tensor:
    import torch

    row, column = divmod(seed % 4, 2)
    held = torch.zeros(size, size, dtype=torch.bool)
    held[row::2, column::2] = True
    return held.flatten()
