"""Softplus and the logarithm of the sigmoid, finite and to the last digits in both tails.

torch translates the latter as `Log(Sigmoid(x))`, which ONNX Runtime answers with -inf from about
-17 on: its sigmoid is good to 1e-7 of one, and zero there. It has no Softplus in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from onnxscript import opset18 as op

from toolkit.core.protocols import Example
from toolkit.lowerings._maths import is_double, log_one_plus_exp, numbers_like, widened


def softplus(self: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:
    """Translate `softplus(Tensor self, Scalar beta=1, Scalar threshold=20) -> Tensor`.

    `max(x, 0) + log(1 + exp(-|x|))`: a quarter of the time of ONNX Runtime's own in float32.
    """
    number = numbers_like(self)
    scaled = self if beta == 1 else op.Mul(self, number(beta))
    value = op.Add(op.Relu(scaled), log_one_plus_exp(scaled, number))
    if beta != 1:
        value = op.Div(value, number(beta))
    if not is_double(self) and beta == 1 and threshold >= EXACT:
        return value
    return op.Where(op.Greater(scaled, number(threshold)), self, value)


EXACT = 17.5
"""Beyond this the answer is the argument in float32, whatever the threshold."""


@widened
def log_sigmoid(self: Any) -> Any:
    """Translate `log_sigmoid(Tensor self) -> Tensor`: `min(x, 0) - log(1 + exp(-|x|))`."""
    number = numbers_like(self)
    return op.Sub(op.Min(self, number(0)), log_one_plus_exp(self, number))


class Softplus:
    """Softplus and its mirror image."""

    def __call__(self) -> Mapping[torch._ops.OpOverload, Callable[..., Any]]:
        """Return the table."""
        return {
            torch.ops.aten.softplus.default: softplus,
            torch.ops.aten.log_sigmoid.default: log_sigmoid,
        }

    def examples(self) -> Mapping[str, Example]:
        """Return both tails, scales, thresholds and edges."""
        near = torch.linspace(-12, 24, 300, dtype=torch.float64)
        tail = torch.linspace(-80, -12, 100, dtype=torch.float64)
        ends = [0.0, -0.0, 1e-45, 20.0, 20.1, -104.0, 1e4, -1e4, math.inf, -math.inf, math.nan]
        edges = torch.tensor(ends, dtype=torch.float64)
        plus, log = torch.nn.functional.softplus, torch.nn.functional.logsigmoid
        return {
            "softplus": Example(plus, (near,)),
            "softplus, tail": Example(lambda x: plus(x).log(), (tail,)),
            "softplus, edges": Example(plus, (edges,)),
            "softplus, scaled": Example(partial(plus, beta=0.3, threshold=5), (near,)),
            "softplus, sharp": Example(partial(plus, beta=4.0), (edges,)),
            "log sigmoid": Example(log, (near,)),
            "log sigmoid, tails": Example(lambda x: (-log(x)).log(), (-tail,)),
            "log sigmoid, far": Example(log, (tail,)),
            "log sigmoid, edges": Example(log, (edges,)),
        }


lowering = Softplus()
