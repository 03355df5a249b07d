"""Triangular systems of a static size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from onnxscript import opset18 as op

from toolkit.core.protocols import Example
from toolkit.lowerings._matrices import static_size, turned
from toolkit.lowerings._triangular import solve_left


def solve_triangular(
    self: Any,
    B: Any,
    upper: bool,  # noqa: FBT001  (the operator's own signature)
    left: bool = True,  # noqa: FBT001, FBT002  (the operator's own signature)
    unitriangular: bool = False,  # noqa: FBT001, FBT002  (the operator's own signature)
) -> Any:
    """Translate `linalg_solve_triangular`.

    `linalg_solve_triangular(Tensor self, Tensor B, *, bool upper, bool left=True,
    bool unitriangular=False) -> Tensor`; shapes `(…, n, n)` and `(…, n, k)`.

    Raises:
        ExportError: The matrix' size is dynamic.
    """
    if left:
        return _solved(self, B, self, upper=upper, unit=unitriangular)
    rank, right_rank = len(self.shape), len(B.shape)
    answer = _solved(
        turned(self, rank), turned(B, right_rank), self, upper=not upper, unit=unitriangular
    )
    return turned(answer, max(rank, right_rank))


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
    matrix = turned(A, len(A.shape)) if transpose else A
    solution = _solved(matrix, self, A, upper=upper != transpose, unit=unitriangular)
    return solution, op.Identity(A)


def _solved(matrix: Any, right: Any, like: Any, *, upper: bool, unit: bool) -> Any:
    size, rank = static_size(like), len(like.shape)
    return solve_left(matrix, right, size, rank, like, upper=upper, unit=unit)


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
