"""Gaussian elimination with partial pivoting, as one `Scan` over the columns.

Rows stay where they are: instead of swapping, a step remembers which rows are still free. So a
step is a rank-one update of the whole matrix and a few operations on one row and one column.

References:
    Matrix Computations, Golub and Van Loan, 4th edition (2013), section 3.4; for Gauss-Jordan
    elimination, Accuracy and Stability of Numerical Algorithms, Higham, 2nd edition (2002),
    section 14.4 (no arXiv numbers).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir import DataType
from onnxscript import opset18 as op

from toolkit.lowerings._matrices import (
    COLUMNS,
    ROWS,
    constant,
    integers,
    part,
    rows_of,
    smallest,
    truths,
)
from toolkit.lowerings._scan import scan


@dataclass(frozen=True, slots=True)
class Elimination:
    """What one elimination leaves.

    Arguments:
        order: Rows in the order in which they became the pivot's, `(batch, n)`.
        pivots: The pivots in that order, `(batch, n)`.
        lower: Factors of the rows, in that order, `(batch, n, n)`; what is above the diagonal,
            and the diagonal itself, is rounding.
        upper: Pivot rows at the time of their step, `(batch, n, m)`; what is below the diagonal
            is rounding.
    """

    order: Any
    pivots: Any
    lower: Any
    upper: Any


def eliminate(matrix: Any, size: int, like: Any) -> Elimination:
    """Eliminate below the pivots: `P A = L U`.

    Of equally large candidates the first row of the original order becomes the pivot's.

    Arguments:
        matrix: `(batch, n, n)`.
        size: The length `n`.
        like: A value of the matrix' type.
    """

    def step(rest: Any, free: Any, column: Any) -> Any:
        pivot, factors, row, best, hit = _pivot(rest, free, column, size, like)
        # The pivot's own factor is exactly 1, so its row becomes zero and stays so.
        rest = op.Sub(rest, op.MatMul(factors, row))
        return (rest, op.Sub(free, hit)), (pivot, factors, row, best)

    states = [matrix, _all_free(matrix, size, like)]
    _, (pivots, factors, upper, order) = scan(step, states, [_columns(size)])
    order = _stacked(order, size)
    return Elimination(
        order=order,
        pivots=_stacked(pivots, size),
        lower=rows_of(op.Transpose(op.Squeeze(factors, [3]), perm=[1, 2, 0]), order),
        upper=op.Transpose(op.Squeeze(upper, [2]), perm=[1, 0, 2]),
    )


def solved(matrix: Any, right: Any, size: int, width: int, like: Any) -> tuple[Any, Any]:
    """Eliminate above and below the pivots, so that nothing is left to substitute.

    Arguments:
        matrix: `(batch, n, n)`.
        right: Right sides, `(batch, n, k)`.
        size: The length `n`.
        width: The length `k`.
        like: A value of the matrix' type.

    Returns:
        The solutions, `(batch, n, k)`, and the pivots, `(batch, n)`.
    """

    def step(rest: Any, free: Any, column: Any) -> Any:
        pivot, factors, row, best, hit = _pivot(rest, free, column, size, like)
        others = op.Mul(factors, op.Sub(constant(1.0, like), hit))
        rest = op.Sub(rest, op.MatMul(others, row))
        return (rest, op.Sub(free, hit)), (pivot, best)

    states = [op.Concat(matrix, right, axis=COLUMNS), _all_free(matrix, size, like)]
    (rest, _), (pivots, order) = scan(step, states, [_columns(size)])
    pivots = _stacked(pivots, size)
    answers = rows_of(part(rest, size, size + width, COLUMNS), _stacked(order, size))
    return op.Div(answers, op.Unsqueeze(pivots, [COLUMNS])), pivots


def _pivot(rest: Any, free: Any, column: Any, size: int, like: Any) -> tuple[Any, ...]:
    """Choose the pivot of a column: its value, every row's factor, its row, index and mark."""
    values = op.Gather(rest, column, axis=COLUMNS)
    # A free row wins over one that is taken even where all are zero.
    score = op.Mul(op.Add(op.Abs(values), smallest(like)), free)
    best = op.ArgMax(score, axis=ROWS, keepdims=1)
    hit = op.Cast(op.Equal(integers(np.arange(size)[:, None]), best), to=like.dtype)
    row = rows_of(rest, op.Squeeze(best, [COLUMNS]))
    pivot = op.Gather(row, column, axis=COLUMNS)
    none = op.Equal(pivot, constant(0.0, like))
    factors = op.Div(values, op.Where(none, constant(1.0, like), pivot))
    return pivot, factors, row, best, hit


def _all_free(matrix: Any, size: int, like: Any) -> Any:
    shape = op.Concat(op.Shape(matrix, end=1), integers([size, 1]), axis=0)
    return op.Expand(constant(1.0, like), shape)


def _columns(size: int) -> Any:
    return integers(np.arange(size)[:, None])


def _stacked(values: Any, size: int) -> Any:
    """Turn `(n, batch, 1, 1)` into `(batch, n)`."""
    return op.Transpose(op.Reshape(values, integers([size, -1])), perm=[1, 0])


def packed(elimination: Elimination, size: int) -> Any:
    """Return `L` (without its diagonal of ones) and `U` in one matrix, as LAPACK does."""
    below = truths(np.tri(size, k=-1))
    return op.Where(below, elimination.lower, elimination.upper)


def sign_of(order: Any, size: int, like: Any) -> Any:
    """Return the permutations' signs, `(batch,)`, by counting inversions."""
    earlier, later = op.Unsqueeze(order, [2]), op.Unsqueeze(order, [1])
    inverted = op.And(op.Greater(earlier, later), truths(np.triu(np.ones((size, size)), k=1)))
    count = op.ReduceSum(op.Cast(inverted, to=DataType.INT64), [1, 2], keepdims=0)
    odd = op.Cast(op.Mod(count, integers(2)), to=like.dtype)
    return op.Sub(constant(1.0, like), op.Mul(constant(2.0, like), odd))


def swaps(order: Any, size: int) -> Any:
    """Return LAPACK's pivots of a permutation: the row, from 1, that each row is swapped with."""

    def step(places: Any, row: Any, place: Any) -> Any:
        other = op.GatherElements(places, row, axis=1)
        places = op.Where(op.Equal(places, place), other, places)
        return (places,), (other,)

    start = op.Expand(integers(np.arange(size)), op.Shape(order))
    rows = op.Unsqueeze(op.Transpose(order, perm=[1, 0]), [2])
    _, (others,) = scan(step, [start], [rows, _columns(size)])
    return op.Cast(op.Add(_stacked(others, size), integers(1)), to=DataType.INT32)


def first_true(failed: Any) -> Any:
    """Return LAPACK's `info`, `(batch,)`: the first true of `(batch, n)`, from 1, or 0."""
    steps = op.Cast(failed, to=DataType.INT32)
    place = op.Cast(op.ArgMax(steps, axis=1, keepdims=0), to=DataType.INT32)
    one = op.Constant(value=ir.tensor(1, dtype=DataType.INT32))
    return op.Mul(op.ReduceMax(steps, [1], keepdims=0), op.Add(place, one))


def first_zero(pivots: Any, like: Any) -> Any:
    """Return LAPACK's `info`, `(batch,)`: the first pivot that is zero, from 1, or 0."""
    return first_true(op.Equal(pivots, constant(0.0, like)))
