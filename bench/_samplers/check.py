"""Whether samplers draw the same, and what eager draws."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from _samplers.subjects import Declared
from toolkit.capture.causal.network import exact_samples
from toolkit.core.entry import Autoregressive
from toolkit.core.errors import UsageError

# Sums in another order than eager's; a flow's inverse feeds them back once per feature.
FLOW_TOLERANCE = 1e-4


def same(name: str, found: Tensor, expected: Tensor) -> None:
    """Raise where two samplers differ.

    Raises:
        UsageError: Indices differ, or numbers by more than the tolerance.
    """
    exact = not expected.dtype.is_floating_point
    if exact and torch.equal(found, expected):
        return
    if not exact and torch.allclose(found, expected, rtol=FLOW_TOLERANCE, atol=FLOW_TOLERANCE):
        return
    wrong = (found != expected).float().mean().item()
    raise UsageError(f"{name} draws other samples: {100 * wrong:.2f} % of the numbers differ")


def confirm(model: nn.Module, declared: Declared, noise: Tensor, drawn: Tensor) -> None:
    """Check samples against eager: each index is the whole network's own choice."""
    if isinstance(declared, Autoregressive):
        same("generate", exact_samples(model, declared, noise, [], drawn), drawn)
        return
    call: Any = declared.reference or declared.call
    result = getattr(model, call)(noise) if isinstance(call, str) else call(model, noise)
    same("generate", result[0] if isinstance(result, tuple) else result, drawn)
