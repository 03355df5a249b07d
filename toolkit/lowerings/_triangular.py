"""Triangular systems, by the inverse from blocks of doubling size and one step of refinement.

A block's inverse follows from those of its halves, `inv([[A, 0], [C, B]]) = [[inv(A), 0],
[-inv(B) C inv(A), inv(B)]]`, for all blocks of one size at once: `log2(n)` rounds of small
products where substitution takes `n` steps. The step of refinement gives back the accuracy that
substitution has and a product with an inverse lacks.

References:
    Accuracy and Stability of Numerical Algorithms, Higham, 2nd edition (2002), sections 12.2 and
    14.2 (no arXiv number).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnxscript import opset18 as op

from toolkit.lowerings._matrices import constant, integers, part, truths, turned


def solve_left(
    matrix: Any, right: Any, size: int, rank: int, like: Any, *, upper: bool, unit: bool
) -> Any:
    """Solve `matrix x = right`; batch axes are broadcast.

    Arguments:
        matrix: `(…, n, n)`; only the one triangle is read, and no diagonal where `unit` is set.
        right: `(…, n, k)`.
        size: The length `n`.
        rank: The matrix' number of axes.
        like: A value of the matrix' type.
        upper: Whether the upper triangle is meant.
        unit: Whether the diagonal is one.
    """
    inverse = _inverse(matrix, size, rank, like, upper=upper, unit=unit)
    answer = op.MatMul(inverse, right)
    triangle = np.tri(size, k=-1 if unit else 0)
    own = op.Where(truths(triangle.T if upper else triangle), matrix, constant(0.0, like))
    if unit:
        own = op.Add(own, constant(np.eye(size), like))
    return op.Add(answer, op.MatMul(inverse, op.Sub(right, op.MatMul(own, answer))))


def _inverse(matrix: Any, size: int, rank: int, like: Any, *, upper: bool, unit: bool) -> Any:
    """Return the inverse; the size is filled up to a power of two with rows of the identity."""
    batch = [0] * (rank - 2)
    whole = 1 << (size - 1).bit_length()
    flat = op.Reshape(matrix, integers([*batch, size * size]))
    places = np.full((whole, whole), size * size)
    places[:size, :size] = np.arange(size * size).reshape(size, size)
    places = places.T if upper else places
    blocks = _diagonal(flat, places, size, like, unit=unit)
    if whole > size:
        # Behind the elements stands a zero for the rows that are filled up.
        flat = _filled(flat, len(batch), 0, 1, 0.0, like)
    half = 1
    while half < whole:
        blocks = _joined(blocks, flat, places, half, batch)
        half *= 2
    inverse = op.Squeeze(blocks, [-3])
    if whole > size:
        inverse = part(part(inverse, 0, size, -1), 0, size, -2)
    return turned(inverse, rank) if upper else inverse


def _diagonal(flat: Any, places: np.ndarray, size: int, like: Any, *, unit: bool) -> Any:
    """Return the inverses of the blocks of size one, `(…, size filled up, 1, 1)`."""
    whole, rank = len(places), len(like.shape)
    if unit:
        shape = op.Concat(op.Shape(like, end=-2), integers([whole, 1, 1]), axis=0)
        return op.Expand(constant(1.0, like), shape)
    diagonal = np.diagonal(places)[:size, None, None]
    blocks = op.Reciprocal(op.Gather(flat, integers(diagonal), axis=-1))
    return _filled(blocks, rank - 2, 2, whole - size, 1.0, like) if whole > size else blocks


def _joined(blocks: Any, flat: Any, places: np.ndarray, half: int, batch: list[int]) -> Any:
    """Join pairs of blocks of size `half`, `(…, 2 m, half, half)`, to `m` of twice the size."""
    pairs = len(places) // (2 * half)
    corners = [
        places[start + half : start + 2 * half, start : start + half]
        for start in range(0, len(places), 2 * half)
    ]
    corner = op.Gather(flat, integers(np.stack(corners)), axis=-1)
    stacked = op.Reshape(blocks, integers([*batch, pairs, 2 * half, half]))
    first, second = part(stacked, 0, half, -2), part(stacked, half, 2 * half, -2)
    product = op.Mul if half == 1 else op.MatMul
    below = op.Neg(product(second, product(corner, first)))
    pads = [0] * (2 * (len(batch) + 3))
    pads[len(batch) + 1] = half
    return op.Concat(op.Concat(first, below, axis=-2), op.Pad(second, integers(pads)), axis=-1)


def _filled(value: Any, axis: int, behind: int, count: int, filling: float, like: Any) -> Any:
    """Append elements along an axis that `behind` others follow."""
    pads = [0] * (2 * (axis + 1 + behind))
    pads[-1 - behind] = count
    return op.Pad(value, integers(pads), constant(filling, like))
