"""Scenes for segmentation: scikit-learn's digits on a dark canvas, a label for every pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toolkit.core.errors import UsageError
from toolkit.core.protocols import Data

if TYPE_CHECKING:
    import torch
    from torch import Tensor

SIDE = 8
LEVELS = 17
INK = 4


def dataset(
    *, size: int = 24, digits: int = 3, train: int = 1024, test: int = 256, seed: int = 0
) -> Data:
    """Paste digits at random places of a dark canvas; a later one covers what lies beneath.

    `x` is `(samples, 1, size, size)` with `level / 16` in [0, 1]; `label` is
    `(samples, size, size)`: 0 for the background, `1 + digit` where that digit's ink is at least a
    quarter of full. No digit of a held-out scene occurs in a training scene.

    Arguments:
        size: Height and width of a scene.
        digits: Number of digits pasted into each.
        train: Number of training scenes.
        test: Number of held-out scenes.
        seed: Seed of the split and of the scenes.

    Raises:
        UsageError: An argument is out of range.
    """
    import torch
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    if size < SIDE or digits < 1 or train < 1 or test < 1:
        raise UsageError(
            f"scenes(size={size}, digits={digits}, train={train}, test={test}) is out of range",
            where="[data] of the recipe",
            next_step=f"size is at least {SIDE}, the others at least 1",
        )
    pixels, labels = load_digits(return_X_y=True)
    parts = train_test_split(
        torch.tensor(pixels).reshape(-1, SIDE, SIDE),
        torch.tensor(labels),
        test_size=0.2,
        random_state=seed,
        stratify=labels,
    )
    generator = torch.Generator().manual_seed(seed)
    sets = (
        _scenes(glyphs, names, count, size, digits, generator)
        for glyphs, names, count in ((parts[0], parts[2], train), (parts[1], parts[3], test))
    )
    return Data(train=next(sets), test=next(sets), levels=LEVELS)


def _scenes(
    glyphs: Tensor,
    names: Tensor,
    count: int,
    size: int,
    digits: int,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    import torch

    x = torch.zeros(count, 1, size, size)
    label = torch.zeros(count, size, size, dtype=torch.int64)
    chosen = torch.randint(len(glyphs), (count, digits), generator=generator).tolist()
    corners = torch.randint(size - SIDE + 1, (count, digits, 2), generator=generator).tolist()
    for scene in range(count):
        for glyph, (top, left) in zip(chosen[scene], corners[scene], strict=True):
            window = (slice(top, top + SIDE), slice(left, left + SIDE))
            ink = glyphs[glyph] >= INK
            x[scene, 0][window][ink] = (glyphs[glyph] / (LEVELS - 1)).float()[ink]
            label[scene][window][ink] = 1 + names[glyph]
    return {"x": x, "label": label}
