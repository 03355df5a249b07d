"""QR factors, by Householder reflections.

References:
    Matrix Computations, Golub and Van Loan, 4th edition (2013), section 5.2.2, with LAPACK's
    signs (no arXiv number).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from onnxscript import opset18 as op

from toolkit.core.protocols import Example
from toolkit.lowerings._matrices import (
    COLUMNS,
    ROWS,
    batched,
    constant,
    integers,
    part,
    static_size,
    truths,
    turned,
    unbatched,
)
from toolkit.lowerings._scan import scan


def qr(A: Any, mode: str = "reduced") -> Any:
    """Translate `linalg_qr`; `A` has shape `(…, m, n)`.

    `linalg_qr(Tensor A, str mode='reduced') -> (Tensor Q, Tensor R)`

    Raises:
        ExportError: The matrix' size is dynamic.
    """
    high, wide = static_size(A, -2), static_size(A)
    count = min(high, wide)
    kept = high if mode == "complete" else count
    matrix = batched(A)
    if mode != "r":
        identity = constant(np.eye(high), A)
        shape = op.Concat(op.Shape(matrix, end=1), integers([high, high]), axis=0)
        matrix = op.Concat(matrix, op.Expand(identity, shape), axis=COLUMNS)
    done = _reflected(matrix, high, count, A)
    upper = truths(np.triu(np.ones((kept, wide))))
    top = part(part(done, 0, kept, ROWS), 0, wide, COLUMNS)
    factor = unbatched(op.Where(upper, top, constant(0.0, A)), A, kept, wide)
    if mode == "r":
        return constant(np.zeros(0), A), factor
    # The reflections that make A upper triangular make the identity the transpose of Q.
    basis = turned(part(part(done, 0, kept, ROWS), wide, wide + high, COLUMNS))
    return unbatched(basis, A, high, kept), factor


def householder_product(input: Any, tau: Any) -> Any:  # noqa: A002  (the operator's own name)
    """Translate `linalg_householder_product(Tensor input, Tensor tau) -> Tensor`.

    Vectors `(…, m, n)` below the diagonal and factors `(…, k)`; the result has shape `(…, m, n)`.

    Raises:
        ExportError: The matrix' size, or the number of factors, is dynamic.
    """
    high, wide, count = static_size(input, -2), static_size(input), static_size(tau)
    vectors = batched(input)
    below = op.Where(truths(np.tri(high, wide, k=-1)), vectors, constant(0.0, input))
    units = op.Add(below, constant(np.eye(high, wide), input))
    factors = op.Reshape(tau, integers([-1, 1, count]))
    shape = op.Concat(op.Shape(vectors, end=1), integers([high, wide]), axis=0)

    def step(basis: Any, column: Any) -> Any:
        vector = op.Gather(units, column, axis=COLUMNS)
        factor = op.Gather(factors, column, axis=COLUMNS)
        return (_reflect(basis, vector, factor),), ()

    start = op.Expand(constant(np.eye(high, wide), input), shape)
    (basis,), _ = scan(step, [start], [integers(np.arange(count)[::-1, None])])
    return unbatched(basis, input, high, wide)


def _reflected(matrix: Any, high: int, count: int, like: Any) -> Any:
    """Make the first `count` columns upper triangular by reflecting all columns."""

    def step(rest: Any, column: Any, reached: Any, unit: Any) -> Any:
        values = op.Mul(op.Gather(rest, column, axis=COLUMNS), reached)
        head = op.ReduceSum(op.Mul(values, unit), [ROWS], keepdims=1)
        tail = op.Sub(values, op.Mul(values, unit))
        clean = op.Equal(op.ReduceMax(op.Abs(tail), [ROWS], keepdims=1), constant(0.0, like))
        size = op.ReduceL2(values, [ROWS], keepdims=1)
        end = op.Where(op.Less(head, constant(0.0, like)), size, op.Neg(size))
        end = op.Where(clean, constant(1.0, like), end)
        factor = op.Where(clean, constant(0.0, like), op.Div(op.Sub(end, head), end))
        scale = op.Where(clean, constant(1.0, like), op.Sub(head, end))
        vector = op.Add(op.Div(tail, scale), unit)
        return (_reflect(rest, vector, factor),), ()

    rows = np.arange(high)[None, :, None]
    columns = np.arange(count)[:, None, None]
    slices = [
        integers(np.arange(count)[:, None]),
        constant(rows >= columns, like),
        constant(rows == columns, like),
    ]
    (done,), _ = scan(step, [matrix], slices)
    return done


def _reflect(matrix: Any, vector: Any, factor: Any) -> Any:
    shadow = op.MatMul(turned(vector), matrix)
    return op.Sub(matrix, op.MatMul(op.Mul(vector, factor), shadow))


class Qr:
    """Orthogonal factors that depend on the inputs; those of weights are folded earlier."""

    def __call__(self) -> Mapping[torch._ops.OpOverload, Callable[..., Any]]:
        """Return the table; `qr` and `orgqr` are decomposed into these."""
        return {
            torch.ops.aten.linalg_qr.default: qr,
            torch.ops.aten.linalg_householder_product.default: householder_product,
        }

    def examples(self) -> Mapping[str, Example]:
        """Return square, tall and wide matrices, every mode, a triangle and a zero column."""
        draws = torch.Generator().manual_seed(0)

        def random(*shape: int) -> torch.Tensor:
            noise = torch.randn(*shape, generator=draws, dtype=torch.float64)
            return noise / math.sqrt(shape[-1]) + 2 * torch.eye(*shape[-2:]).double()

        zero = random(5, 4, 4)
        zero[:, :, 0] = 0
        product = torch.linalg.householder_product
        return {
            "8": Example(torch.linalg.qr, (random(5, 8, 8),)),
            "64": Example(torch.linalg.qr, (random(3, 64, 64),)),
            "tall": Example(torch.linalg.qr, (random(5, 7, 3),)),
            "wide": Example(torch.linalg.qr, (random(5, 3, 7),)),
            "complete": Example(partial(torch.linalg.qr, mode="complete"), (random(5, 7, 3),)),
            "r": Example(lambda a: torch.linalg.qr(a, mode="r").R, (random(5, 7, 3),)),
            "upper already": Example(torch.linalg.qr, (random(5, 4, 4).triu(),)),
            "zero column": Example(lambda a: torch.linalg.qr(a).R, (zero,)),
            "more batch axes": Example(torch.linalg.qr, (random(5, 2, 3, 4, 4),)),
            "no batch axis": Example(torch.linalg.qr, (random(6, 6),), shared=(0,)),
            "size 1": Example(torch.linalg.qr, (random(5, 1, 1),)),
            "product": Example(product, (random(5, 6, 4), random(5, 4, 4)[:, 0])),
            "product, fewer factors": Example(product, (random(5, 6, 4), random(5, 4, 2)[:, 0])),
        }


lowering = Qr()
