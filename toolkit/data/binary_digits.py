"""Handwritten digits of scikit-learn in black and white: vectors of 64 zeros and ones."""

from __future__ import annotations

from toolkit.core.protocols import Data
from toolkit.data import digits

THRESHOLD = 0.5


def dataset(*, size: int = digits.NATIVE, test: int = 360, seed: int = 0) -> Data:
    """Load the digits as `x` of shape `(samples, size * size)` in 0, 1 and `label` in 0 … 9.

    A pixel is one where it is brighter than half. Training digits that then look like a held-out
    one are left out.

    Arguments:
        size: Height and width; above 8 the pictures are scaled up.
        test: Number of held-out digits, balanced over the digits.
        seed: Seed of the split.

    Raises:
        UsageError: An argument is out of range.
    """
    grey = digits.dataset(size=size, test=test, seed=seed)
    train, held_out = (
        (part["x"] > THRESHOLD).flatten(1).float() for part in (grey.train, grey.test)
    )
    seen = {row.numpy().tobytes() for row in held_out}
    kept = [number for number, row in enumerate(train) if row.numpy().tobytes() not in seen]

    return Data(
        train={"x": train[kept], "label": grey.train["label"][kept]},
        test={"x": held_out, "label": grey.test["label"]},
        levels=2,
    )
