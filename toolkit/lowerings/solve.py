"""Systems of linear equations, by Gauss-Jordan elimination."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from onnxscript import opset18 as op

from toolkit.core.protocols import Example
from toolkit.lowerings._elimination import eliminate, first_zero, packed, solved, swaps
from toolkit.lowerings._matrices import batched, integers, static_size, turned, unbatched


def solve_ex(
    A: Any,
    B: Any,
    left: bool = True,  # noqa: FBT001, FBT002  (the operator's own signature)
    check_errors: bool = False,  # noqa: ARG001, FBT001, FBT002  (the operator's own signature)
) -> Any:
    """Translate `_linalg_solve_ex`; `A` has shape `(…, n, n)`, `B` `(…, n, k)` or `(…, n)`.

    `_linalg_solve_ex(Tensor A, Tensor B, *, bool left=True, bool check_errors=False)
    -> (Tensor result, Tensor LU, Tensor pivots, Tensor info)`

    A singular matrix gives a non-zero info and a result of no use; `check_errors` cannot stop a
    graph.

    Raises:
        ExportError: The matrix' size, or the number of right sides, is dynamic.
    """
    size, rank = static_size(A), len(A.shape)
    vectors = len(B.shape) == 1 or tuple(B.shape) == tuple(A.shape)[:-1]
    right = op.Unsqueeze(B, [-1]) if vectors else B
    right_rank = len(B.shape) + vectors
    matrix = A if left else turned(A, rank)
    right = right if left or vectors else turned(right, right_rank)
    width = 1 if vectors else static_size(B, -1 if left else -2)
    answer, shared = _broadcast(matrix, right, size, width, A)
    answer = op.Reshape(answer, op.Concat(shared, integers([size, width]), axis=0))
    if vectors:
        answer = op.Squeeze(answer, [-1])
    elif not left:
        answer = turned(answer, max(rank, right_rank))
    done = eliminate(batched(A), size, A)
    return (
        answer,
        unbatched(packed(done, size), A, size, size),
        unbatched(swaps(done.order, size), A, size),
        unbatched(first_zero(done.pivots, A), A),
    )


def solve(
    A: Any,
    B: Any,
    left: bool = True,  # noqa: FBT001, FBT002  (the operator's own signature)
) -> Any:
    """Translate `linalg_solve(Tensor A, Tensor B, *, bool left=True) -> Tensor`.

    torch raises where a matrix is singular.

    Raises:
        ExportError: The matrix' size, or the number of right sides, is dynamic.
    """
    return solve_ex(A, B, left)[0]


def _broadcast(matrix: Any, right: Any, size: int, width: int, like: Any) -> tuple[Any, Any]:
    """Solve with both sides' batch axes made equal; return the answer and those axes' lengths."""
    one = integers([1, 1])
    every = op.Expand(matrix, op.Concat(op.Shape(right, end=-2), one, axis=0))
    shared = op.Shape(every, end=-2)
    many = op.Expand(right, op.Concat(shared, one, axis=0))
    flat = op.Reshape(every, integers([-1, size, size]))
    answer, _ = solved(flat, op.Reshape(many, integers([-1, size, width])), size, width, like)
    return answer, shared


class Solve:
    """Systems whose matrix depends on the inputs; the inverses of weights are folded earlier."""

    def __call__(self) -> Mapping[torch._ops.OpOverload, Callable[..., Any]]:
        """Return the table; decomposed, `solve` would keep a check that cannot be exported."""
        return {
            torch.ops.aten._linalg_solve_ex.default: solve_ex,  # noqa: SLF001  (torch's own name)
            torch.ops.aten.linalg_solve.default: solve,
        }

    def examples(self) -> Mapping[str, Example]:
        """Return sizes 1 to 64, vectors, right sides from the right, and shared operands."""
        draws = torch.Generator().manual_seed(0)

        def matrix(*shape: int) -> torch.Tensor:
            noise = torch.randn(*shape, generator=draws, dtype=torch.float64)
            near = torch.eye(shape[-1], dtype=torch.float64) + noise / (4 * math.sqrt(shape[-1]))
            return near.roll(1, -1)

        def right(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=draws, dtype=torch.float64)

        solve = torch.linalg.solve
        captured = torch.ops.aten._linalg_solve_ex.default  # noqa: SLF001  (torch's own name)
        swap = matrix(5, 4, 4)
        swap[:, 0, 0] = 0
        return {
            "8": Example(solve, (matrix(5, 8, 8), right(5, 8, 3))),
            "32": Example(solve, (matrix(5, 32, 32), right(5, 32, 1))),
            "64": Example(solve, (matrix(3, 64, 64), right(3, 64, 2))),
            "vectors": Example(solve, (matrix(5, 6, 6), right(5, 6))),
            "one vector": Example(solve, (matrix(5, 6, 6), right(6)), shared=(1,)),
            "from the right": Example(
                partial(solve, left=False), (matrix(5, 6, 6), right(5, 2, 6))
            ),
            "one matrix": Example(solve, (matrix(6, 6), right(5, 6, 2)), shared=(0,)),
            "one right side": Example(solve, (matrix(5, 6, 6), right(6, 2)), shared=(1,)),
            "more batch axes": Example(solve, (matrix(5, 2, 3, 4, 4), right(5, 1, 3, 4, 2))),
            "zero leading element": Example(solve, (swap, right(5, 4, 2))),
            "and the factors": Example(captured, (swap.mT, right(5, 4, 2))),
            "size 1": Example(solve, (matrix(5, 1, 1), right(5, 1, 2))),
        }


lowering = Solve()
