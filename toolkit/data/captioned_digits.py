"""Handwritten digits of scikit-learn, each with its name spelled in letters as a caption."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toolkit.core.errors import UsageError
from toolkit.core.protocols import Data

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
LETTERS = ("", *sorted(set("".join(NAMES))))
LENGTH = 6
LEVELS = 17


def dataset(*, test: int = 360, seed: int = 0) -> Data:
    """Load the digits as codes with captions.

    `x` is a picture `(samples, 64)` in [0, 1], `target` its name in letters, int64
    `(samples, 6)`. Token 0 ends the name and fills it up.

    Arguments:
        test: Number of held-out pictures, balanced over the digits.
        seed: Seed of the split.

    Raises:
        UsageError: The held-out part is too small or too large.
    """
    import torch
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, labels = load_digits(return_X_y=True)
    if not len(NAMES) <= test <= len(pixels) - len(NAMES):
        raise UsageError(
            f"captioned_digits(test={test}) is out of range",
            where="[data] of the recipe",
            next_step=f"take {len(NAMES)} to {len(pixels) - len(NAMES)}",
        )
    names = torch.tensor([encode(name) for name in NAMES])

    def part(x: np.ndarray, label: np.ndarray) -> dict[str, Tensor]:
        return {"x": torch.tensor(x).float() / (LEVELS - 1), "target": names[label]}

    train_x, test_x, train_y, test_y = train_test_split(
        pixels, labels, test_size=test, random_state=seed, stratify=labels
    )
    train, held_out = part(train_x, train_y), part(test_x, test_y)
    return Data(train, held_out, levels=len(LETTERS), symbols=LETTERS)


def encode(name: str) -> list[int]:
    """Return the tokens of a name's letters, filled up with 0."""
    return [LETTERS.index(letter) for letter in name] + [0] * (LENGTH - len(name))
