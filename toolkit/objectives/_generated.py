"""What objectives of generators share: as many samples of the model as a batch has."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def generated(model: nn.Module, like: Tensor) -> Tensor:
    """Return `model.generate` of as many normal noises of shape `model.noise_shape`."""
    noise = torch.randn(len(like), *model.noise_shape, dtype=like.dtype, device=like.device)  # type: ignore[misc]
    samples: Tensor = model.generate(noise)  # type: ignore[operator]
    return samples
