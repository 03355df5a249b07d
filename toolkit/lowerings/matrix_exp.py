"""The matrix exponential, by scaling and squaring of a Taylor polynomial.

References:
    Functions of Matrices, Higham (2008), section 10.3; the polynomial of degree 20 is evaluated
    with seven products as in On the Number of Nonscalar Multiplications Necessary to Evaluate
    Polynomials, Paterson and Stockmeyer, SIAM Journal on Computing 2 (1973), 60-66 (no arXiv
    numbers).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from onnx_ir import DataType
from onnxscript import opset18 as op

from toolkit.core.protocols import Example
from toolkit.lowerings._matrices import batched, constant, static_size, unbatched
from toolkit.lowerings._scan import loop

DEGREE, BLOCK = 20, 5
# Norms up to which the polynomial's remainder is below the type's rounding.
LARGEST_NORM = {DataType.FLOAT: 3.0, DataType.DOUBLE: 1.4}
MOST_SQUARINGS = 64


def matrix_exp(self: Any) -> Any:
    """Translate `linalg_matrix_exp(Tensor self) -> Tensor`; both have shape `(…, n, n)`.

    Each matrix is squared as often as its own norm asks for.

    Raises:
        ExportError: The matrix' size is dynamic.
    """
    size, matrix = static_size(self), batched(self)
    norm = op.ReduceMax(op.ReduceSum(op.Abs(matrix), [1], keepdims=1), [2], keepdims=1)
    doublings = op.Div(op.Log(norm), constant(math.log(2), self))
    excess = op.Sub(doublings, constant(math.log2(LARGEST_NORM[self.dtype]), self))
    squarings = op.Clip(op.Ceil(excess), constant(0, self), constant(MOST_SQUARINGS, self))
    scaled = op.Mul(matrix, op.Pow(constant(2, self), op.Neg(squarings)))

    def step(done: Any, power: Any) -> Any:
        due = op.Less(op.Cast(done, to=self.dtype), squarings)
        return None, (op.Where(due, op.MatMul(power, power), power),)

    most = op.Cast(op.ReduceMax(squarings, keepdims=0), to=DataType.INT64)
    (power,) = loop(step, [_polynomial(scaled, size, self)], trips=most)
    return unbatched(power, self, size, size)


def _polynomial(x: Any, size: int, like: Any) -> Any:
    """Return the Taylor polynomial, by Horner's scheme in the fifth power."""
    square = op.MatMul(x, x)
    powers = [
        constant(np.eye(size), like),
        x,
        square,
        op.MatMul(square, x),
        op.MatMul(square, square),
    ]
    fifth = op.MatMul(powers[-1], x)
    total = op.Mul(fifth, constant(1 / math.factorial(DEGREE), like))
    for start in range(DEGREE - BLOCK, -1, -BLOCK):
        for offset, power in enumerate(powers):
            weight = constant(1 / math.factorial(start + offset), like)
            total = op.Add(total, op.Mul(power, weight))
        if start:
            total = op.MatMul(total, fifth)
    return total


class MatrixExp:
    """The exponential of matrices that depend on the inputs."""

    def __call__(self) -> Mapping[torch._ops.OpOverload, Callable[..., Any]]:
        """Return the table; `matrix_exp` is decomposed into this."""
        return {torch.ops.aten.linalg_matrix_exp.default: matrix_exp}

    def examples(self) -> Mapping[str, Example]:
        """Return small and large norms in one batch, zero, sizes 1 to 64 and more batch axes."""
        draws = torch.Generator().manual_seed(0)

        def random(*shape: int) -> torch.Tensor:
            noise = torch.randn(*shape, generator=draws, dtype=torch.float64)
            return noise / math.sqrt(shape[-1])

        skewed = random(5, 8, 8)
        scales = torch.tensor([0.0, 1e-6, 0.3, 2.0, 5.0], dtype=torch.float64)
        return {
            "8": Example(torch.linalg.matrix_exp, (random(5, 8, 8),)),
            "64": Example(torch.linalg.matrix_exp, (random(3, 64, 64) / 4,)),
            "all norms": Example(torch.matrix_exp, ((skewed - skewed.mT) * scales[:, None, None],)),
            "decaying": Example(torch.matrix_exp, (random(5, 4, 4) - 3 * torch.eye(4).double(),)),
            "more batch axes": Example(torch.matrix_exp, (random(5, 2, 3, 4, 4),)),
            "no batch axis": Example(torch.matrix_exp, (random(6, 6),), shared=(0,)),
            "size 1": Example(torch.matrix_exp, (random(5, 1, 1),)),
        }


lowering = MatrixExp()
