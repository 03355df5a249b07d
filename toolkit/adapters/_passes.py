"""Inverses of masked autoregressive transforms, as nflows and normflows write them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from toolkit.core.protocols import Replacement
from toolkit.nn.iterate import iterate

Examples = Mapping[str, tuple[tuple[Any, ...], Mapping[str, Any]]]


def inverse(transform: Any, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return what a transform maps to `inputs`, one more feature right in every pass.

    Arguments:
        transform: Gives the parameters of all features, and inverts each alone.
        inputs: `(batch, …)`.
        context: `(batch, features)`.

    Returns:
        The inverse, and its log-determinant, `(batch,)`.
    """

    def step(x: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
        parameters = transform.autoregressive_net(x, context)
        found: tuple[Tensor, Tensor] = transform._elementwise_inverse(inputs, parameters)  # noqa: SLF001  (the library's hook)
        return found

    passes = math.prod(inputs.shape[1:])
    x, log_det = iterate(step, passes, torch.zeros_like(inputs), inputs.new_zeros(len(inputs)))
    return x, log_det


def of(target: str, make: Callable[[], Any]) -> Replacement:
    """Return the replacement of a library's inverse.

    Arguments:
        target: `package.module:Class.method`.
        make: Makes a small transform of four features, without context.
    """

    def examples() -> Examples:
        y = torch.tensor([[0.3, -1.2, 0.5, 0.0], [2.0, 0.1, 0.0, -0.7]], dtype=torch.float64)
        return {"four features": ((make().double().eval(), y), {})}

    return Replacement(targets=(target,), function=inverse, examples=examples)
