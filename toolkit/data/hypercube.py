"""Uniform points of the unit cube: the noise that an importance sampler learns from."""

from __future__ import annotations

from toolkit.core.errors import UsageError
from toolkit.core.protocols import Data


def dataset(*, features: int = 4, samples: int = 8192, test: int = 8192, seed: int = 0) -> Data:
    """Draw the points as `x` of shape `(samples, features)` in [0, 1).

    Arguments:
        features: Dimensions of the cube.
        samples: Number of training points.
        test: Number of held-out points.
        seed: Seed of the draw.

    Raises:
        UsageError: An argument is out of range.
    """
    import torch

    if min(features, samples, test) < 1:
        raise UsageError(
            f"hypercube(features={features}, samples={samples}, test={test}) is out of range",
            where="[data] of the recipe",
            next_step="each is at least 1",
        )
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(samples + test, features, generator=generator)
    return Data(train={"x": x[:samples]}, test={"x": x[samples:]})
