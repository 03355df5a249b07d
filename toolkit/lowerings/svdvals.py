"""Singular values, by one-sided Jacobi rotations of all pairs of columns in turn.

Unlike the eigenvalues of the Gram matrix, they keep the accuracy of the small ones.

References:
    Matrix Computations, Golub and Van Loan, 4th edition (2013), sections 8.5.5 (the order of the
    pairs) and 8.6.3 (no arXiv number).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from onnxscript import opset18 as op

from toolkit.core.errors import ExportError
from toolkit.core.protocols import Example
from toolkit.lowerings._matrices import (
    COLUMNS,
    ROWS,
    batched,
    constant,
    integers,
    part,
    static_size,
    turned,
    unbatched,
)
from toolkit.lowerings._scan import loop, scan

MOST_SWEEPS = 30


def svd(
    A: Any,
    full_matrices: bool = False,  # noqa: ARG001, FBT001, FBT002  (the operator's own signature)
    compute_uv: bool = True,  # noqa: FBT001, FBT002  (the operator's own signature)
    driver: str = "",  # noqa: ARG001  (the operator's own signature)
) -> Any:
    """Translate `_linalg_svd` without vectors; `A` has shape `(…, m, n)`, the values `(…, k)`.

    `_linalg_svd(Tensor A, bool full_matrices=False, bool compute_uv=True, *, str? driver=None)
    -> (Tensor U, Tensor S, Tensor Vh)`

    Raises:
        ExportError: The matrix' size is dynamic, or the singular vectors are asked for: their
            signs are any routine's own.
    """
    if compute_uv:
        raise ExportError(
            "singular vectors are asked for",
            where="linalg.svd",
            next_step="use linalg.svdvals, or fold the decomposition if it is of a parameter",
        )
    empty = constant(np.zeros(0), A)
    return empty, svdvals(A), op.Identity(empty)


def svdvals(
    A: Any,
    driver: str = "",  # noqa: ARG001  (the operator's own signature)
) -> Any:
    """Translate `linalg_svdvals(Tensor A, *, str? driver=None) -> Tensor`, largest first.

    Raises:
        ExportError: The matrix' size is dynamic.
    """
    high, wide = static_size(A, -2), static_size(A)
    count = min(high, wide)
    # Columns become rows, so that sums run along adjacent elements.
    rows = batched(A) if high < wide else turned(batched(A))
    even = count + count % 2
    if even > count:
        rows = op.Pad(rows, integers([0, 0, 0, 0, 1, 0]))
    lengths = _lengths(_orthogonal(rows, even, max(high, wide), A))
    values, _ = op.TopK(lengths, integers([count]), axis=1)
    return unbatched(values, A, count)


def _orthogonal(rows: Any, count: int, width: int, like: Any) -> Any:
    """Rotate pairs of rows until all are orthogonal: `(batch, count, width)`."""
    half = count // 2
    order = _next_pairs(count)
    tolerance = float(np.finfo(like.dtype.numpy()).eps) * math.sqrt(width)

    def turn(both: Any, worst: Any, _: Any) -> Any:
        first, second = part(both, 0, half, ROWS), part(both, half, count, ROWS)
        one, other = _squares(first, first), _squares(second, second)
        inner = _squares(first, second)
        apart = op.Equal(inner, constant(0.0, like))
        scale = op.Mul(op.Sqrt(one), op.Sqrt(other))
        cosine = op.Div(op.Abs(inner), op.Where(apart, constant(1.0, like), scale))
        twice = op.Where(apart, constant(1.0, like), op.Mul(inner, constant(2.0, like)))
        ratio = op.Div(op.Sub(other, one), twice)
        root = op.Sqrt(op.Add(op.Mul(ratio, ratio), constant(1.0, like)))
        tangent = op.Reciprocal(op.Add(op.Abs(ratio), root))
        tangent = op.Where(op.Less(ratio, constant(0.0, like)), op.Neg(tangent), tangent)
        tangent = op.Where(apart, constant(0.0, like), tangent)
        square = op.Add(op.Mul(tangent, tangent), constant(1.0, like))
        c = op.Reciprocal(op.Sqrt(square))
        s = op.Mul(c, tangent)
        # As corrections of what is there, small rotations round little.
        share = op.Div(s, op.Add(c, constant(1.0, like)))
        left = op.Sub(first, op.Mul(s, op.Add(second, op.Mul(share, first))))
        right = op.Add(second, op.Mul(s, op.Sub(first, op.Mul(share, second))))
        moved = op.Gather(op.Concat(left, right, axis=ROWS), integers(order), axis=ROWS)
        return (moved, op.Max(worst, op.ReduceMax(cosine, keepdims=0))), ()

    def sweep(_: Any, both: Any) -> Any:
        turns = integers(np.arange(max(count - 1, 1))[:, None])
        # A loop forgets its states' shapes; ONNX Runtime's `Scan` must know them.
        known = op.Reshape(both, integers([-1, count, width]))
        (ends, worst), _rows = scan(turn, [known, constant(0.0, like)], [turns])
        return op.Greater(worst, constant(tolerance, like)), (ends,)

    (ends,) = loop(sweep, [rows], trips=integers(MOST_SWEEPS))
    return ends


def _next_pairs(count: int) -> np.ndarray:
    """Return where each place's row comes from: a tournament in which row 0 keeps its place."""
    half = count // 2
    upper, lower = list(range(half)), list(range(half, count))
    if half > 1:
        upper, lower = [0, lower[0], *upper[1:-1]], [*lower[1:], upper[-1]]
    return np.array([*upper, *lower])


def _squares(first: Any, second: Any) -> Any:
    return op.ReduceSum(op.Mul(first, second), [COLUMNS], keepdims=1)


def _lengths(rows: Any) -> Any:
    return op.Sqrt(op.ReduceSum(op.Mul(rows, rows), [COLUMNS], keepdims=0))


class SingularValues:
    """Singular values of matrices that depend on the inputs."""

    def __call__(self) -> Mapping[torch._ops.OpOverload, Callable[..., Any]]:
        """Return the table; decomposed, `svdvals` would ask for the vectors too."""
        return {
            torch.ops.aten.linalg_svdvals.default: svdvals,
            torch.ops.aten._linalg_svd.default: svd,  # noqa: SLF001  (torch's own name)
        }

    def examples(self) -> Mapping[str, Example]:
        """Return square, tall and wide matrices, lost ranks, equal values and small ones."""
        draws = torch.Generator().manual_seed(0)

        def random(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=draws, dtype=torch.float64)

        captured = torch.ops.aten._linalg_svd.default  # noqa: SLF001  (torch's own name)
        lost = random(5, 6, 2) @ random(5, 2, 6)
        scales = torch.logspace(0, -5, 6, dtype=torch.float64)
        values = torch.linalg.svdvals
        return {
            "8": Example(values, (random(5, 8, 8),)),
            "32": Example(values, (random(3, 32, 32),)),
            "tall": Example(values, (random(5, 7, 3),)),
            "wide": Example(values, (random(5, 3, 7),)),
            "lost rank": Example(values, (lost,)),
            "zero": Example(values, (0 * random(3, 4, 4),)),
            "equal": Example(values, (torch.eye(4).double().repeat(3, 1, 1),)),
            "small": Example(values, (random(5, 6, 6) * scales,)),
            "more batch axes": Example(values, (random(5, 2, 3, 4, 4),)),
            "no batch axis": Example(values, (random(6, 6),), shared=(0,)),
            "as captured": Example(lambda a: captured(a, False, False)[1], (random(5, 4, 4),)),  # noqa: FBT003
            "size 1": Example(values, (random(5, 1, 1),)),
        }


lowering = SingularValues()
