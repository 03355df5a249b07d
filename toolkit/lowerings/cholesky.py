"""Cholesky factors and the systems they solve.

References:
    Matrix Computations, Golub and Van Loan, 4th edition (2013), algorithm 4.2.2, by outer
    products (no arXiv number).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from onnxscript import opset18 as op

from toolkit.core.protocols import Example
from toolkit.lowerings._elimination import first_true
from toolkit.lowerings._matrices import (
    COLUMNS,
    ROWS,
    batched,
    constant,
    integers,
    static_size,
    truths,
    turned,
    unbatched,
)
from toolkit.lowerings._scan import scan
from toolkit.lowerings._triangular import solve_left


def cholesky_ex(
    self: Any,
    upper: bool = False,  # noqa: FBT001, FBT002  (the operator's own signature)
    check_errors: bool = False,  # noqa: ARG001, FBT001, FBT002  (the operator's own signature)
) -> Any:
    """Translate `linalg_cholesky_ex`; matrices `(…, n, n)`, info `(…)`.

    `linalg_cholesky_ex(Tensor self, *, bool upper=False, bool check_errors=False)
    -> (Tensor L, Tensor info)`

    As in torch, only the triangle that is asked for is read. A matrix that is not positive-definite
    gives a non-zero info and a factor of no use; `check_errors` cannot stop a graph.

    Raises:
        ExportError: The matrix' size is dynamic.
    """
    size, matrix = static_size(self), batched(self)
    matrix = turned(matrix) if upper else matrix
    factor, pivots = _factor(matrix, size, self)
    failed = op.Not(op.Greater(pivots, constant(0.0, self)))
    return (
        unbatched(turned(factor) if upper else factor, self, size, size),
        unbatched(first_true(failed), self),
    )


def cholesky(
    self: Any,
    upper: bool = False,  # noqa: FBT001, FBT002  (the operator's own signature)
) -> Any:
    """Translate `linalg_cholesky` and `cholesky`, where torch raises if there is no factor.

    `linalg_cholesky(Tensor self, *, bool upper=False) -> Tensor`

    Raises:
        ExportError: The matrix' size is dynamic.
    """
    return cholesky_ex(self, upper)[0]


def _factor(matrix: Any, size: int, like: Any) -> tuple[Any, Any]:
    """Return the factors `(batch, n, n)` and the squares of their diagonals `(batch, n)`."""

    def step(rest: Any, column: Any, reached: Any) -> Any:
        values = op.Gather(rest, column, axis=COLUMNS)
        pivot = op.Gather(values, column, axis=ROWS)
        factors = op.Mul(op.Div(values, op.Sqrt(pivot)), reached)
        rest = op.Sub(rest, op.MatMul(factors, turned(factors)))
        return (rest,), (factors, pivot)

    columns = integers(np.arange(size)[:, None])
    reached = constant(np.triu(np.ones((size, size)))[:, :, None], like)
    _, (factors, pivots) = scan(step, [matrix], [columns, reached])
    factors = op.Transpose(op.Squeeze(factors, [3]), perm=[1, 2, 0])
    pivots = op.Transpose(op.Squeeze(pivots, [2, 3]), perm=[1, 0])
    return op.Where(truths(np.tri(size)), factors, constant(0.0, like)), pivots


def cholesky_solve(
    self: Any,
    input2: Any,
    upper: bool = False,  # noqa: FBT001, FBT002  (the operator's own signature)
) -> Any:
    """Translate `cholesky_solve(Tensor self, Tensor input2, bool upper=False) -> Tensor`.

    Right sides `(…, n, k)` come first, then the factors `(…, n, n)`.

    Raises:
        ExportError: The matrix' size is dynamic.
    """
    return _solved_twice(input2, self, upper=upper)


def cholesky_inverse(
    self: Any,
    upper: bool = False,  # noqa: FBT001, FBT002  (the operator's own signature)
) -> Any:
    """Translate `cholesky_inverse(Tensor self, bool upper=False) -> Tensor`.

    Raises:
        ExportError: The matrix' size is dynamic.
    """
    return _solved_twice(self, constant(np.eye(static_size(self)), self), upper=upper)


def _solved_twice(factor: Any, right: Any, *, upper: bool) -> Any:
    size, rank = static_size(factor), len(factor.shape)
    across = turned(factor, rank)
    lower_factor, upper_factor = (across, factor) if upper else (factor, across)
    half = solve_left(lower_factor, right, size, rank, factor, upper=False, unit=False)
    return solve_left(upper_factor, half, size, rank, factor, upper=True, unit=False)


class Cholesky:
    """Cholesky factors that depend on the inputs, and what is solved with them."""

    def __call__(self) -> Mapping[torch._ops.OpOverload, Callable[..., Any]]:
        """Return the table; decomposed, `linalg_cholesky` would keep a check nobody can export."""
        return {
            torch.ops.aten.linalg_cholesky_ex.default: cholesky_ex,
            torch.ops.aten.linalg_cholesky.default: cholesky,
            torch.ops.aten.cholesky.default: cholesky,
            torch.ops.aten.cholesky_solve.default: cholesky_solve,
            torch.ops.aten.cholesky_inverse.default: cholesky_inverse,
        }

    def examples(self) -> Mapping[str, Example]:
        """Return sizes 1 to 64, both triangles, a matrix without a factor and more batch axes."""
        draws = torch.Generator().manual_seed(0)

        def positive(*shape: int) -> torch.Tensor:
            noise = torch.randn(*shape, generator=draws, dtype=torch.float64)
            return noise @ noise.mT / shape[-1] + torch.eye(shape[-1], dtype=torch.float64)

        def right(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=draws, dtype=torch.float64)

        cholesky = torch.linalg.cholesky
        not_all = positive(5, 4, 4)
        not_all[1::2, 2, 2] -= 4
        factor = cholesky(positive(5, 6, 6))
        return {
            "8": Example(cholesky, (positive(5, 8, 8),)),
            "32": Example(cholesky, (positive(5, 32, 32),)),
            "64": Example(cholesky, (positive(3, 64, 64),)),
            "upper": Example(partial(cholesky, upper=True), (positive(5, 5, 5),)),
            "old name": Example(torch.cholesky, (positive(5, 5, 5),)),
            "other triangle ignored": Example(
                cholesky, (positive(5, 5, 5) + right(5, 5, 5).triu(1),)
            ),
            "positive or not": Example(lambda a: torch.linalg.cholesky_ex(a).info, (not_all,)),
            "more batch axes": Example(cholesky, (positive(5, 2, 3, 4, 4),)),
            "no batch axis": Example(cholesky, (positive(6, 6),), shared=(0,)),
            "size 1": Example(cholesky, (positive(5, 1, 1),)),
            "solve": Example(torch.cholesky_solve, (right(5, 6, 2), factor)),
            "solve, upper": Example(
                partial(torch.cholesky_solve, upper=True), (right(5, 6, 2), factor.mT)
            ),
            "solve, one factor": Example(
                torch.cholesky_solve, (right(5, 6, 2), factor[0]), shared=(1,)
            ),
            "inverse": Example(torch.cholesky_inverse, (factor,)),
        }


lowering = Cholesky()
