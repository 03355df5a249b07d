"""Inverses, by Gauss-Jordan elimination."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from onnxscript import opset18 as op

from toolkit.core.protocols import Example
from toolkit.lowerings._elimination import first_zero, solved
from toolkit.lowerings._matrices import batched, constant, integers, static_size, unbatched


def inv_ex(
    A: Any,
    check_errors: bool = False,  # noqa: ARG001, FBT001, FBT002  (the operator's own signature)
) -> Any:
    """Translate `linalg_inv_ex`; `A` and the inverse have shape `(…, n, n)`, info `(…)`.

    `linalg_inv_ex(Tensor A, *, bool check_errors=False) -> (Tensor inverse, Tensor info)`

    A singular matrix gives a non-zero info and an inverse of no use; `check_errors` cannot stop a
    graph.

    Raises:
        ExportError: The matrix' size is dynamic.
    """
    size, matrix = static_size(A), batched(A)
    shape = op.Concat(op.Shape(matrix, end=1), integers([size, size]), axis=0)
    identity = op.Expand(constant(np.eye(size), A), shape)
    inverse, pivots = solved(matrix, identity, size, size, A)
    return unbatched(inverse, A, size, size), unbatched(first_zero(pivots, A), A)


def inv(A: Any) -> Any:
    """Translate `linalg_inv(Tensor A) -> Tensor`; torch raises where a matrix is singular.

    Raises:
        ExportError: The matrix' size is dynamic.
    """
    return inv_ex(A)[0]


def inverse(self: Any) -> Any:
    """Translate `inverse(Tensor self) -> Tensor`, the older name of `linalg_inv`.

    Raises:
        ExportError: The matrix' size is dynamic.
    """
    return inv(self)


class Inverse:
    """Inverses of matrices that depend on the inputs; those of weights are folded earlier."""

    def __call__(self) -> Mapping[torch._ops.OpOverload, Callable[..., Any]]:
        """Return the table; decomposed, `inv` would keep a check that no exporter can express."""
        return {
            torch.ops.aten.linalg_inv_ex.default: inv_ex,
            torch.ops.aten.linalg_inv.default: inv,
            torch.ops.aten.inverse.default: inverse,
        }

    def examples(self) -> Mapping[str, Example]:
        """Return sizes 1 to 64, zero leading elements, bad scaling and more batch axes."""
        draws = torch.Generator().manual_seed(0)

        def random(*shape: int) -> torch.Tensor:
            noise = torch.randn(*shape, generator=draws, dtype=torch.float64)
            near = torch.eye(shape[-1], dtype=torch.float64) + noise / (4 * math.sqrt(shape[-1]))
            return near.roll(1, -1)

        swap = random(5, 4, 4)
        swap[:, 0, 0] = 0
        singular = random(5, 3, 3)
        singular[::2, :, 1] = 0
        scales = torch.logspace(-3, 3, 8, dtype=torch.float64)
        return {
            "8": Example(torch.linalg.inv, (random(5, 8, 8),)),
            "32": Example(torch.linalg.inv, (random(5, 32, 32),)),
            "64": Example(torch.linalg.inv, (random(3, 64, 64),)),
            "old name": Example(torch.inverse, (random(5, 5, 5),)),
            "zero leading element": Example(torch.linalg.inv, (swap,)),
            "rows of all sizes": Example(torch.linalg.inv, (random(5, 8, 8) * scales[:, None],)),
            "singular or not": Example(lambda a: torch.linalg.inv_ex(a).info, (singular,)),
            "more batch axes": Example(torch.linalg.inv, (random(5, 2, 3, 4, 4),)),
            "no batch axis": Example(torch.linalg.inv, (random(6, 6),), shared=(0,)),
            "size 1": Example(torch.linalg.inv, (random(5, 1, 1),)),
        }


lowering = Inverse()
