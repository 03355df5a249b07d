"""Determinants and their logarithms, from the pivots of Gaussian elimination."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from onnxscript import opset18 as op

from toolkit.core.protocols import Example
from toolkit.lowerings._elimination import Elimination, eliminate, packed, sign_of, swaps
from toolkit.lowerings._matrices import batched, constant, static_size, unbatched


def slogdet(A: Any) -> Any:
    """Translate `_linalg_slogdet`; `A` has shape `(…, n, n)`, sign and logarithm `(…)`.

    `_linalg_slogdet(Tensor A) -> (Tensor sign, Tensor logabsdet, Tensor LU, Tensor pivots)`

    Raises:
        ExportError: The matrix' size is dynamic.
    """
    size = static_size(A)
    done = eliminate(batched(A), size, A)
    signs = op.ReduceProd(op.Sign(done.pivots), [1], keepdims=0)
    sign = op.Mul(signs, sign_of(done.order, size, A))
    logarithm = op.ReduceSum(op.Log(op.Abs(done.pivots)), [1], keepdims=0)
    return unbatched(sign, A), unbatched(logarithm, A), *_factors(done, size, A)


def det(A: Any) -> Any:
    """Translate `_linalg_det(Tensor A) -> (Tensor result, Tensor LU, Tensor pivots)`.

    `A` has shape `(…, n, n)`, the result `(…)`.

    Raises:
        ExportError: The matrix' size is dynamic.
    """
    size = static_size(A)
    done = eliminate(batched(A), size, A)
    product = op.ReduceProd(done.pivots, [1], keepdims=0)
    result = op.Mul(product, sign_of(done.order, size, A))
    return unbatched(result, A), *_factors(done, size, A)


def logdet(self: Any) -> Any:
    """Translate `logdet(Tensor self) -> Tensor`: NaN where the determinant is negative.

    Raises:
        ExportError: The matrix' size is dynamic.
    """
    sign, logarithm, *_ = slogdet(self)
    negative = op.Less(sign, constant(0.0, self))
    return op.Where(negative, constant(math.nan, self), logarithm)


def det_alone(A: Any) -> Any:
    """Translate `linalg_det(Tensor A) -> Tensor`, which torch's exporter would make a `Det`.

    Raises:
        ExportError: The matrix' size is dynamic.
    """
    return det(A)[0]


def _factors(done: Elimination, size: int, A: Any) -> tuple[Any, Any]:
    return unbatched(packed(done, size), A, size, size), unbatched(swaps(done.order, size), A, size)


class SlogDet:
    """Determinants that depend on the inputs; those of weights are folded earlier."""

    def __call__(self) -> Mapping[torch._ops.OpOverload, Callable[..., Any]]:
        """Return the table; torch's exporter has a `Det` for some, which TensorRT refuses."""
        return {
            torch.ops.aten.det.default: det_alone,
            torch.ops.aten.linalg_det.default: det_alone,
            torch.ops.aten.logdet.default: logdet,
            torch.ops.aten._linalg_slogdet.default: slogdet,  # noqa: SLF001  (torch's own name)
            torch.ops.aten._linalg_det.default: det,  # noqa: SLF001  (torch's own name)
        }

    def examples(self) -> Mapping[str, Example]:
        """Return sizes 1 to 64, zero leading elements, singular matrices and more batch axes."""
        draws = torch.Generator().manual_seed(0)

        def random(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=draws, dtype=torch.float64)

        swap = random(5, 4, 4)
        swap[:, 0, 0] = 0
        singular = 3 * random(5, 3, 3)
        singular[::2, :, 1] = 0
        positive = random(5, 6, 6)
        captured = torch.ops.aten._linalg_det.default  # noqa: SLF001  (torch's own name)
        either = random(5, 6, 6)
        either[0] = positive[0] @ positive[0].mT
        cycle = torch.eye(4, dtype=torch.float64).roll(1, 0).repeat(3, 1, 1)
        return {
            "slogdet, 8": Example(torch.linalg.slogdet, (random(5, 8, 8),)),
            "slogdet, 32": Example(torch.linalg.slogdet, (random(5, 32, 32),)),
            "slogdet, 64": Example(torch.linalg.slogdet, (random(3, 64, 64),)),
            "det, 5": Example(torch.linalg.det, (random(5, 5, 5),)),
            "zero leading element": Example(torch.linalg.slogdet, (swap,)),
            "permutation": Example(torch.linalg.det, (cycle,)),
            "singular": Example(torch.linalg.slogdet, (singular,)),
            "singular det": Example(torch.linalg.det, (singular,)),
            "det, as captured": Example(lambda a: captured(a)[0], (swap,)),
            "old det": Example(torch.ops.aten.det.default, (random(5, 3, 3),)),
            "logdet of either sign": Example(torch.logdet, (either,)),
            "logdet": Example(torch.logdet, (positive @ positive.mT,)),
            "more batch axes": Example(torch.linalg.slogdet, (random(5, 2, 3, 4, 4),)),
            "no batch axis": Example(torch.linalg.slogdet, (random(6, 6),), shared=(0,)),
            "size 1": Example(torch.linalg.slogdet, (random(5, 1, 1),)),
        }


lowering = SlogDet()
