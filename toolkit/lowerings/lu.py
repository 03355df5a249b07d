"""LU factors with partial pivoting, and the systems they solve."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from onnx_ir import DataType
from onnxscript import opset18 as op

from toolkit.core.errors import ExportError
from toolkit.core.protocols import Example
from toolkit.lowerings._elimination import eliminate, first_zero, packed, swaps
from toolkit.lowerings._matrices import (
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


def lu_factor_ex(
    A: Any,
    pivot: bool = True,  # noqa: FBT001, FBT002  (the operator's own signature)
    check_errors: bool = False,  # noqa: ARG001, FBT001, FBT002  (the operator's own signature)
) -> Any:
    """Translate `linalg_lu_factor_ex`; matrices `(…, n, n)`, pivots `(…, n)`, info `(…)`.

    `linalg_lu_factor_ex(Tensor A, *, bool pivot=True, bool check_errors=False)
    -> (Tensor LU, Tensor pivots, Tensor info)`

    Of equally large candidates the first row of the original order becomes the pivot's; LAPACK
    takes the first in the order that its swaps have led to.

    Raises:
        ExportError: The matrix' size is dynamic, it is not square, or pivoting is off.
    """
    size = _square(A, pivot=pivot)
    done = eliminate(batched(A), size, A)
    return (
        unbatched(packed(done, size), A, size, size),
        unbatched(swaps(done.order, size), A, size),
        unbatched(first_zero(done.pivots, A), A),
    )


def lu_factor(
    A: Any,
    pivot: bool = True,  # noqa: FBT001, FBT002  (the operator's own signature)
) -> Any:
    """Translate `linalg_lu_factor(Tensor A, *, bool pivot=True) -> (Tensor LU, Tensor pivots)`.

    Raises:
        ExportError: As `lu_factor_ex`.
    """
    return lu_factor_ex(A, pivot)[:2]


def lu(
    A: Any,
    pivot: bool = True,  # noqa: FBT001, FBT002  (the operator's own signature)
) -> Any:
    """Translate `linalg_lu(Tensor A, *, bool pivot=True) -> (Tensor P, Tensor L, Tensor U)`.

    Raises:
        ExportError: As `lu_factor_ex`.
    """
    size = _square(A, pivot=pivot)
    done = eliminate(batched(A), size, A)
    lower, upper = _triangles(packed(done, size), size, A)
    factors = (_permutation(done.order, size, A), lower, upper)
    return tuple(unbatched(factor, A, size, size) for factor in factors)


def lu_unpack(
    LU_data: Any,
    LU_pivots: Any,
    unpack_data: bool = True,  # noqa: ARG001, FBT001, FBT002  (the operator's own signature)
    unpack_pivots: bool = True,  # noqa: ARG001, FBT001, FBT002  (the operator's own signature)
) -> Any:
    """Translate `lu_unpack`; all its results are given, asked for or not.

    `lu_unpack(Tensor LU_data, Tensor LU_pivots, bool unpack_data=True, bool unpack_pivots=True)
    -> (Tensor P, Tensor L, Tensor U)`

    Raises:
        ExportError: The matrix' size is dynamic, or it is not square.
    """
    size = _square(LU_data, pivot=True)
    order = _order(LU_pivots, size)
    lower, upper = _triangles(batched(LU_data), size, LU_data)
    factors = (_permutation(order, size, LU_data), lower, upper)
    return tuple(unbatched(factor, LU_data, size, size) for factor in factors)


def lu_solve(
    LU: Any,
    pivots: Any,
    B: Any,
    left: bool = True,  # noqa: FBT001, FBT002  (the operator's own signature)
    adjoint: bool = False,  # noqa: FBT001, FBT002  (the operator's own signature)
) -> Any:
    """Translate `linalg_lu_solve`; right sides `(…, n, k)`, or `(…, k, n)` from the right.

    `linalg_lu_solve(Tensor LU, Tensor pivots, Tensor B, *, bool left=True, bool adjoint=False)
    -> Tensor`

    Raises:
        ExportError: The matrix' size is dynamic.
    """
    size, rank, right_rank = _square(LU, pivot=True), len(LU.shape), len(B.shape)
    swapped = unbatched(_permutation(_order(pivots, size), size, LU), LU, size, size)
    right = B if left else turned(B, right_rank)
    solve = partial(solve_left, size=size, rank=rank, like=LU)
    if left != adjoint:
        half = solve(LU, op.MatMul(turned(swapped, rank), right), upper=False, unit=True)
        answer = solve(LU, half, upper=True, unit=False)
    else:
        across = turned(LU, rank)
        half = solve(across, right, upper=False, unit=False)
        answer = op.MatMul(swapped, solve(across, half, upper=True, unit=True))
    return answer if left else turned(answer, max(rank, right_rank))


def _square(matrix: Any, *, pivot: bool) -> int:
    high, wide = static_size(matrix, -2), static_size(matrix)
    if high == wide and pivot:
        return high
    raise ExportError(
        "LU factors are lowered for square matrices with pivoting only",
        where=f"{high} × {wide}, pivot={pivot}",
        next_step="factor a square matrix with pivot=True, or fold it if it is a parameter",
    )


def _triangles(both: Any, size: int, like: Any) -> tuple[Any, Any]:
    below = truths(np.tri(size, k=-1))
    zero = constant(0.0, like)
    lower = op.Add(op.Where(below, both, zero), constant(np.eye(size), like))
    return lower, op.Where(below, zero, both)


def _permutation(order: Any, size: int, like: Any) -> Any:
    """Return `P` of `A = P L U`: column `k` marks the row that became the pivot's in step `k`."""
    marks = op.Equal(op.Unsqueeze(order, [1]), integers(np.arange(size)[:, None]))
    return op.Cast(marks, to=like.dtype)


def _order(pivots: Any, size: int) -> Any:
    """Return the order of the rows, `(batch, n)`, after LAPACK's swaps."""

    def step(order: Any, place: Any, other: Any) -> Any:
        mine = op.Gather(order, place, axis=1)
        theirs = op.GatherElements(order, other, axis=1)
        moved = op.Where(op.Equal(places, other), mine, order)
        return (op.Where(op.Equal(places, place), theirs, moved),), ()

    places = integers(np.arange(size))
    flat = op.Reshape(op.Cast(pivots, to=DataType.INT64), integers([-1, size]))
    others = op.Unsqueeze(op.Transpose(op.Sub(flat, integers(1)), perm=[1, 0]), [2])
    start = op.Expand(places, op.Shape(flat))
    (order,), _ = scan(step, [start], [integers(np.arange(size)[:, None]), others])
    return order


class Lu:
    """LU factors that depend on the inputs; those of weights are folded earlier."""

    def __call__(self) -> Mapping[torch._ops.OpOverload, Callable[..., Any]]:
        """Return the table; decomposed, `lu_factor` would keep a check that nobody can export."""
        return {
            torch.ops.aten.linalg_lu_factor_ex.default: lu_factor_ex,
            torch.ops.aten.linalg_lu_factor.default: lu_factor,
            torch.ops.aten.linalg_lu.default: lu,
            torch.ops.aten.lu_unpack.default: lu_unpack,
            torch.ops.aten.linalg_lu_solve.default: lu_solve,
        }

    def examples(self) -> Mapping[str, Example]:
        """Return sizes 1 to 64, singular matrices, both sides and adjoint systems."""
        draws = torch.Generator().manual_seed(0)

        def matrix(*shape: int) -> torch.Tensor:
            noise = torch.randn(*shape, generator=draws, dtype=torch.float64)
            near = torch.eye(shape[-1], dtype=torch.float64) + noise / (4 * math.sqrt(shape[-1]))
            return near.roll(1, -1)

        def right(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=draws, dtype=torch.float64)

        factor, solve = torch.linalg.lu_factor, torch.linalg.lu_solve
        singular = right(5, 3, 3)
        singular[::2, :, 1] = 0
        return {
            "8": Example(factor, (matrix(5, 8, 8),)),
            "64": Example(factor, (matrix(3, 64, 64),)),
            "random": Example(torch.linalg.lu, (right(5, 6, 6),)),
            "factors": Example(torch.linalg.lu, (matrix(5, 32, 32),)),
            "singular or not": Example(lambda a: torch.linalg.lu_factor_ex(a).info, (singular,)),
            "unpacked": Example(lambda a: torch.lu_unpack(*factor(a)), (matrix(5, 6, 6),)),
            "more batch axes": Example(torch.linalg.lu, (matrix(5, 2, 3, 4, 4),)),
            "size 1": Example(torch.linalg.lu, (matrix(5, 1, 1),)),
            "solve": Example(lambda a, b: solve(*factor(a), b), (matrix(5, 8, 8), right(5, 8, 3))),
            "solve, adjoint": Example(
                lambda a, b: solve(*factor(a), b, adjoint=True), (matrix(5, 8, 8), right(5, 8, 3))
            ),
            "solve from the right": Example(
                lambda a, b: solve(*factor(a), b, left=False), (matrix(5, 8, 8), right(5, 3, 8))
            ),
            "solve from the right, adjoint": Example(
                lambda a, b: solve(*factor(a), b, left=False, adjoint=True),
                (matrix(5, 8, 8), right(5, 3, 8)),
            ),
        }


lowering = Lu()
