"""Triangular systems of a static size, by substitution."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from onnxscript import opset18 as op

from toolkit.core.errors import ExportError
from toolkit.core.protocols import Example


def solve_triangular(
    self: Any,
    B: Any,
    upper: bool,  # noqa: FBT001  (the operator's own signature)
    left: bool = True,  # noqa: FBT001, FBT002  (the operator's own signature)
    unitriangular: bool = False,  # noqa: FBT001, FBT002  (the operator's own signature)
) -> Any:
    """Translate `linalg_solve_triangular`, one row of the answer after the other.

    `linalg_solve_triangular(Tensor self, Tensor B, *, bool upper, bool left=True,
    bool unitriangular=False) -> Tensor`; shapes `(…, n, n)` and `(…, n, k)`.

    Substitution is backward stable without pivoting; about six nodes per row.

    Raises:
        ExportError: The matrix' size is dynamic.
    """
    size, rank = _size(self), len(self.shape)
    if left:
        return _substituted(self, B, size, upper=upper, unit=unitriangular)
    turned = _transposed(B, len(B.shape))
    matrix = _transposed(self, rank)
    answer = _substituted(matrix, turned, size, upper=not upper, unit=unitriangular)
    return _transposed(answer, max(rank, len(B.shape)))


def triangular_solve(
    self: Any,
    A: Any,
    upper: bool = True,  # noqa: FBT001, FBT002  (the operator's own signature)
    transpose: bool = False,  # noqa: FBT001, FBT002  (the operator's own signature)
    unitriangular: bool = False,  # noqa: FBT001, FBT002  (the operator's own signature)
) -> Any:
    """Translate the older `triangular_solve`, right sides first.

    `triangular_solve(Tensor self, Tensor A, bool upper=True, bool transpose=False,
    bool unitriangular=False) -> (Tensor solution, Tensor cloned_coefficient)`.

    Raises:
        ExportError: The matrix' size is dynamic.
    """
    matrix = _transposed(A, len(A.shape)) if transpose else A
    solution = _substituted(matrix, self, _size(A), upper=upper != transpose, unit=unitriangular)
    return solution, op.Identity(A)


def _size(matrix: Any) -> int:
    if isinstance(size := matrix.shape[-1], int):
        return size
    raise ExportError(
        "a triangular system has a matrix of dynamic size",
        where=f"size {size}",
        next_step="fix the matrix' axes: only batch axes may be dynamic",
    )


def _substituted(matrix: Any, right: Any, size: int, *, upper: bool, unit: bool) -> Any:
    if unit:
        # Without a division nothing else gives the first row the matrix' batch axes.
        right = op.Expand(
            right, op.Concat(op.Shape(matrix, end=-1), op.Constant(value_ints=[1]), axis=0)
        )
    known: Any = None
    for row in reversed(range(size)) if upper else range(size):
        value = op.Slice(right, [row], [row + 1], [-2])
        coefficients = op.Slice(matrix, [row], [row + 1], [-2])
        if known is not None:
            first, last = (row + 1, size) if upper else (0, row)
            done = op.MatMul(op.Slice(coefficients, [first], [last], [-1]), known)
            value = op.Sub(value, done)
        if not unit:
            value = op.Div(value, op.Slice(coefficients, [row], [row + 1], [-1]))
        known = _joined(value, known, first=upper)
    return known


def _joined(value: Any, known: Any, *, first: bool) -> Any:
    if known is None:
        return value
    return op.Concat(*((value, known) if first else (known, value)), axis=-2)


def _transposed(value: Any, rank: int) -> Any:
    return op.Transpose(value, perm=[*range(rank - 2), rank - 1, rank - 2])


class SolveTriangular:
    """Triangular systems whose answer depends on the inputs; the others are folded earlier."""

    def __call__(self) -> Mapping[torch._ops.OpOverload, Callable[..., Any]]:
        """Return the table."""
        return {
            torch.ops.aten.linalg_solve_triangular.default: solve_triangular,
            torch.ops.aten.triangular_solve.default: triangular_solve,
        }

    def examples(self) -> Mapping[str, Example]:
        """Return both triangles and sides, unit diagonals, one matrix for many, and size 1."""
        draws = torch.Generator().manual_seed(0)
        noise = torch.randn(5, 8, 8, generator=draws, dtype=torch.float64)
        matrix = noise + 4 * torch.eye(8, dtype=torch.float64)
        right = torch.randn(5, 8, 3, generator=draws, dtype=torch.float64)
        solve = torch.linalg.solve_triangular
        old = torch.ops.aten.triangular_solve.default
        lower = partial(solve, upper=False)
        unit = partial(solve, upper=True, unitriangular=True)
        return {
            "lower": Example(lower, (matrix.tril(), right)),
            "upper": Example(partial(solve, upper=True), (matrix.triu(), right)),
            "other triangle ignored": Example(lower, (matrix, right)),
            "from the right": Example(
                partial(solve, upper=True, left=False), (matrix.triu(), right.mT)
            ),
            "unit": Example(unit, (matrix.triu() / 4, right)),
            "unit, one right side": Example(unit, (matrix.triu() / 4, right[0]), shared=(1,)),
            "one matrix": Example(lower, (matrix[0].tril(), right), shared=(0,)),
            "old, lower": Example(
                lambda a, b: old(b, a, upper=False, unitriangular=True), (matrix.tril() / 4, right)
            ),
            "old, turned": Example(lambda a, b: old(b, a, transpose=True), (matrix.triu(), right)),
            "size 1": Example(lower, (matrix[:, :1, :1], right[:, :1])),
        }


lowering = SolveTriangular()
