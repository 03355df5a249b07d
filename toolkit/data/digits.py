"""Handwritten digits of scikit-learn: 1,797 grey pictures, 8x8, 17 levels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toolkit.core.errors import UsageError
from toolkit.core.protocols import Data

if TYPE_CHECKING:
    from torch import Tensor

LEVELS = 17
NATIVE = 8


def dataset(
    *,
    size: int = NATIVE,
    dequantize: bool = False,
    binary: bool = False,
    draws: int = 1,
    test: int = 360,
    seed: int = 0,
) -> Data:
    """Load the digits as `x` of shape `(samples, 1, size, size)` and `label` in 0 … 9.

    Without `dequantize`, `x = level / 16` in [0, 1]. With it, `x = (level + u) / 17` in [0, 1),
    u uniform: then `log2(17)` bits per dimension lead from the density to the discrete likelihood.

    Arguments:
        size: Height and width; above 8 the pictures are scaled up and rounded to the levels.
        dequantize: Add uniform noise of one level.
        binary: Black and white: a pixel is 1 where it is brighter than half, else 0.
        draws: How often the training set is repeated, with noise of its own each time.
        test: Number of held-out pictures, balanced over the digits.
        seed: Seed of the split and of the noise.

    Raises:
        UsageError: An argument is out of range, or two exclude each other.
    """
    import torch
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, labels = load_digits(return_X_y=True)
    if dequantize and binary:
        raise UsageError(
            "black and white digits have no grey levels to dequantise",
            where="[data] of the recipe",
            next_step="choose dequantize or binary",
        )
    if not 10 <= test <= len(pixels) - 10 or size < 1 or draws < 1:
        raise UsageError(
            f"digits(size={size}, draws={draws}, test={test}) is out of range",
            where="[data] of the recipe",
            next_step=f"size and draws are at least 1, test is 10 to {len(pixels) - 10}",
        )
    indices = train_test_split(
        range(len(pixels)), test_size=test, random_state=seed, stratify=labels
    )
    levels = _resized(torch.tensor(pixels).reshape(-1, 1, NATIVE, NATIVE), size)
    label = torch.tensor(labels)
    generator = torch.Generator().manual_seed(seed)

    def part(rows: list[int]) -> dict[str, Tensor]:
        x = levels[rows]
        if dequantize:
            # float32 rounds a noise just below 1 up to the next level: stay inside [0, 1).
            noise = torch.rand(x.shape, generator=generator, dtype=torch.float64)
            x = ((x + noise) / LEVELS).float().clamp(max=1 - 2**-24)
        elif binary:
            x = (x > (LEVELS - 1) / 2).float()
        else:
            x = (x / (LEVELS - 1)).float()
        return {"x": x, "label": label[rows]}

    held_out = part(indices[1])
    train = part(indices[0] * draws)
    return Data(train=train, test=held_out, levels=2 if binary else LEVELS)


def _resized(levels: Tensor, size: int) -> Tensor:
    from torch.nn import functional as F

    if size == NATIVE:
        return levels
    return F.interpolate(levels, size=(size, size), mode="bilinear", align_corners=False).round()
