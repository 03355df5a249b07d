"""Two moons of scikit-learn: points of two interleaved half circles, standardised."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toolkit.core.errors import UsageError
from toolkit.core.protocols import Data

if TYPE_CHECKING:
    from torch import Tensor


def dataset(*, samples: int = 8192, noise: float = 0.1, test: int = 2048, seed: int = 0) -> Data:
    """Draw the points as `x` of shape `(samples, 2)` and `label` in 0, 1.

    Both parts are standardised by the mean and deviation of the training part.

    Arguments:
        samples: Number of training points.
        noise: Deviation of the noise that is added to the half circles, before standardising.
        test: Number of held-out points.
        seed: Seed of the draw.

    Raises:
        UsageError: An argument is out of range.
    """
    import torch
    from sklearn.datasets import make_moons

    if samples < 2 or test < 1 or noise < 0:
        raise UsageError(
            f"moons(samples={samples}, noise={noise}, test={test}) is out of range",
            where="[data] of the recipe",
            next_step="samples is at least 2, test at least 1, noise not negative",
        )
    points, labels = make_moons(samples + test, noise=noise, random_state=seed)
    train, held_out = points[:samples], points[samples:]
    mean, deviation = train.mean(0), train.std(0)

    def part(values: object, label: object) -> dict[str, Tensor]:
        x = (torch.as_tensor(values) - torch.as_tensor(mean)) / torch.as_tensor(deviation)
        return {"x": x.float(), "label": torch.as_tensor(label)}

    return Data(train=part(train, labels[:samples]), test=part(held_out, labels[samples:]))
