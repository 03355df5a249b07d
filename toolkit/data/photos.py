"""Patches of scikit-learn's two sample photographs: a palace and a flower, in colour or grey."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toolkit.core.errors import UsageError
from toolkit.core.protocols import Data
from toolkit.data._pictures import Options, Part, as_data, without_colour

if TYPE_CHECKING:
    from torch import Tensor

HEIGHT, WIDTH = 427, 640


def dataset(
    *,
    size: int = 16,
    grey: bool = False,
    dequantize: bool = False,
    draws: int = 1,
    test: int = 0,
    limit: int = 0,
    seed: int = 0,
) -> Data:
    """Cut both photographs into squares that do not overlap, and hold some of them out.

    `x` is `(samples, 3, size, size)`, or `(samples, 1, size, size)` where grey, with `level / 255`
    in [0, 1]; `label` says which photograph it is of: 0 the palace, 1 the flower. Patches that
    occur more than once are left out but for one.

    Arguments:
        size: Height and width of a patch.
        grey: Turn colours into grey (ITU-R BT.601).
        dequantize: Give `(level + u) / 256`, u uniform, instead.
        draws: How often the training set is repeated, with noise of its own each time.
        test: Number of held-out patches; 0 for a fifth.
        limit: Most patches of each part; 0 for all.
        seed: Seed of the split and of the noise.

    Raises:
        UsageError: An argument is out of range.
    """
    import torch
    from sklearn.datasets import load_sample_images

    if not 1 <= size <= HEIGHT:
        raise UsageError(
            f"photos(size={size}) is out of range",
            where="[data] of the recipe",
            next_step=f"size is 1 to {HEIGHT}",
        )
    pictures = [torch.tensor(picture) for picture in load_sample_images().images]
    patches = [_patches(picture, size) for picture in pictures]
    label = torch.cat([torch.full((len(part),), index) for index, part in enumerate(patches)])
    levels = torch.cat(patches).float()
    if grey:
        levels = without_colour(levels)
    first = _first_of_each(levels)
    options = Options(dequantize=dequantize, draws=draws, test=test, limit=limit, seed=seed)
    return as_data(Part(levels[first], label[first]), None, options)


def _patches(picture: Tensor, size: int) -> Tensor:
    """Return the squares of `(height, width, 3)` as `(count, 3, size, size)`."""
    squares = picture.unfold(0, size, size).unfold(1, size, size)
    return squares.reshape(-1, 3, size, size)


def _first_of_each(levels: Tensor) -> Tensor:
    """Return the indices of the samples that are not equal to an earlier one."""
    import numpy as np
    import torch

    _, first = np.unique(levels.flatten(1).numpy(), axis=0, return_index=True)
    return torch.from_numpy(np.sort(first))
