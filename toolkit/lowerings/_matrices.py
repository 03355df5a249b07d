"""What the lowerings of linear algebra share: sizes, batches, constants and slices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from onnxscript import opset18 as op

from toolkit.core.errors import ExportError

BATCH, ROWS, COLUMNS = 0, 1, 2


def static_size(matrix: Any, axis: int = -1) -> int:
    """Return the length of an axis.

    Raises:
        ExportError: It is dynamic.
    """
    if isinstance(size := matrix.shape[axis], int):
        return size
    raise ExportError(
        "linear algebra meets a matrix of dynamic size",
        where=f"size {size}",
        next_step="fix the matrix' axes: only batch axes may be dynamic",
    )


def constant(values: Any, like: Any) -> Any:
    """Return a constant of a tensor's own type: a bare Python number may become float32."""
    return op.Constant(value=ir.tensor(np.asarray(values, like.dtype.numpy())))


def integers(values: int | Sequence[int] | np.ndarray) -> Any:
    """Return a constant of 64-bit integers."""
    return op.Constant(value=ir.tensor(np.asarray(values, np.int64)))


def truths(values: np.ndarray) -> Any:
    """Return a constant of truth values."""
    return op.Constant(value=ir.tensor(np.asarray(values, np.bool_)))


def smallest(like: Any) -> Any:
    """Return the smallest normal number of a tensor's own type."""
    return constant(np.finfo(like.dtype.numpy()).tiny, like)


def part(value: Any, first: int, last: int, axis: int) -> Any:
    """Return a slice of one axis."""
    return op.Slice(value, [first], [last], [axis])


def turned(value: Any, rank: int = 3) -> Any:
    """Return the matrices with rows and columns exchanged."""
    return op.Transpose(value, perm=[*range(rank - 2), rank - 1, rank - 2])


def batched(matrix: Any) -> Any:
    """Return the matrices with one batch axis: `(…, n, m)` becomes `(batch, n, m)`."""
    if len(matrix.shape) == 3:
        return matrix
    return op.Reshape(matrix, integers([-1, static_size(matrix, -2), static_size(matrix)]))


def unbatched(value: Any, like: Any, *tail: int) -> Any:
    """Give a value the matrix' own batch axes back.

    Arguments:
        value: Has one batch axis, then axes of the lengths in `tail`.
        like: The matrix before `batched`.
        tail: Lengths of the value's own axes.
    """
    if len(like.shape) == 3:
        return op.Identity(value)
    if len(like.shape) == 2:
        return op.Reshape(value, integers(tail))
    batch = op.Shape(like, end=-2)
    return op.Reshape(value, op.Concat(batch, integers(tail), axis=0) if tail else batch)


def rows_of(matrix: Any, indices: Any) -> Any:
    """Return rows by index: `(batch, n, m)` and `(batch, k)` give `(batch, k, m)`."""
    return op.GatherND(matrix, op.Unsqueeze(indices, [-1]), batch_dims=1)
