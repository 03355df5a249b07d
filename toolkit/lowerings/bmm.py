"""Batched products of small matrices with one column, or rows with one column, as sums.

ONNX Runtime calls a matrix product for each matrix of the batch: for thousands of rows of five
numbers that takes several times as long as the products and their sums.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from onnxscript import opset18 as op

from toolkit.core.protocols import Example
from toolkit.lowerings._matrices import COLUMNS, ROWS

# Up to here the sums were faster at every batch of 7 to 2560, in float32 on one core.
MOST_ELEMENTS = 64


def bmm(self: Any, mat2: Any) -> Any:
    """Translate `bmm(Tensor self, Tensor mat2) -> Tensor` of `(b, n, k)` and `(b, k, m)`."""
    if not (_is_batch(self) and _is_batch(mat2)):
        return op.MatMul(self, mat2)
    rows, length, columns = self.shape[ROWS], self.shape[COLUMNS], mat2.shape[COLUMNS]
    if columns == 1 and _is_small(rows, length):
        return _summed(self, op.Transpose(mat2, perm=[0, 2, 1]), COLUMNS)
    if rows == 1 and _is_small(columns, length):
        return _summed(op.Transpose(self, perm=[0, 2, 1]), mat2, ROWS)
    return op.MatMul(self, mat2)


def _is_batch(value: Any) -> bool:
    """Return whether the number of matrices follows the batch: few are soon multiplied."""
    return value.shape is not None and not isinstance(value.shape[0], int)


def _is_small(*sizes: Any) -> bool:
    """Return whether a matrix is a vector, or has few elements."""
    known = [size for size in sizes if isinstance(size, int)]
    return len(known) == len(sizes) and (1 in known or known[0] * known[1] <= MOST_ELEMENTS)


def _summed(one: Any, other: Any, axis: int) -> Any:
    return op.ReduceSum(op.Mul(one, other), [axis], keepdims=1)


class Bmm:
    """Products of batches of matrices."""

    def __call__(self) -> Mapping[torch._ops.OpOverload, Callable[..., Any]]:
        """Return the table; `matmul` and `einsum` of batches are decomposed into this."""
        return {torch.ops.aten.bmm.default: bmm}

    def examples(self) -> Mapping[str, Example]:
        """Return one column, one row, neither, both, and large matrices; a shared batch."""
        draws = torch.Generator().manual_seed(0)

        def make(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=draws, dtype=torch.float64)

        return {
            "one column": Example(torch.bmm, (make(7, 3, 5), make(7, 5, 1))),
            "one row": Example(torch.bmm, (make(7, 1, 5), make(7, 5, 3))),
            "dot": Example(torch.bmm, (make(7, 1, 100), make(7, 100, 1))),
            "outer": Example(torch.bmm, (make(7, 5, 1), make(7, 1, 3))),
            "one number": Example(torch.bmm, (make(7, 5, 1), make(7, 1, 1))),
            "matrices": Example(torch.bmm, (make(7, 3, 5), make(7, 5, 2))),
            "large": Example(torch.bmm, (make(7, 16, 20), make(7, 20, 1))),
            "shared": Example(torch.bmm, (make(4, 3, 5), make(4, 5, 1)), shared=(0, 1)),
        }


lowering = Bmm()
