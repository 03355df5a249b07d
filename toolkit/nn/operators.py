"""Torch operators of the namespace `toolkit`: whole for a tracer, plain in eager.

Importing this file registers `torch.ops.toolkit.<name>` for every name of `OPERATORS`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from toolkit.nn import splines
from toolkit.nn.taps import masked_convolution_step

DOMAIN = "toolkit"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Operator:
    """A function of tensors that is one operator, in torch and in ONNX.

    Arguments:
        plain: The same in plain torch: positional tensors, keyword numbers and words.
        op_type: Its ONNX name.
        outputs: Names of what it returns.
        blank: Returns tensors of its outputs' sizes, one or several as `plain` does.
    """

    plain: Callable[..., Any]
    op_type: str
    outputs: tuple[str, ...]
    blank: Callable[..., Any]

    def __call__(self, *tensors: Tensor, **arguments: Any) -> Any:
        """Apply the torch operator; the tracer of TorchScript, which knows none, sees its parts."""
        tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        return (self.plain if tracing else self.overload)(*tensors, **arguments)

    @property
    def overload(self) -> torch._ops.OpOverload:
        """Return the registered torch operator."""
        overload: torch._ops.OpOverload = getattr(torch.ops.toolkit, self.plain.__name__).default
        return overload

    @property
    def inputs(self) -> tuple[str, ...]:
        """Return the names of the tensors it takes."""
        return tuple(name for name, item in self._parameters() if item.default is item.empty)

    @property
    def attributes(self) -> Mapping[str, Any]:
        """Return its numbers and words with their defaults."""
        return {n: item.default for n, item in self._parameters() if item.default is not item.empty}

    def _parameters(self) -> list[tuple[str, inspect.Parameter]]:
        return list(inspect.signature(self.plain).parameters.items())


def _spline(plain: Callable[..., tuple[Tensor, Tensor]], op_type: str) -> Operator:
    def blank(x: Tensor, *tables: Tensor, **_: Any) -> tuple[Tensor, Tensor]:
        # An addition tells a tracer which sizes are equal.
        like = sum((table.select(-1, 0) for table in tables), start=x)
        return torch.empty_like(like), torch.empty_like(like)

    return Operator(plain, op_type, ("y", "log_det"), blank)


OPERATORS: Mapping[str, Operator] = {
    operator.op_type: operator
    for operator in (
        _spline(splines.rational_quadratic, "RationalQuadraticSpline"),
        _spline(splines.rational_linear, "RationalLinearSpline"),
        _spline(splines.piecewise_linear, "PiecewiseLinearSpline"),
        _spline(splines.piecewise_quadratic, "PiecewiseQuadraticSpline"),
        _spline(splines.piecewise_cubic, "PiecewiseCubicSpline"),
        Operator(
            masked_convolution_step,
            "MaskedConvolutionStep",
            ("y",),
            lambda x, past, *more: torch.empty_like((x[:, 0] + past[:, 0, 0])[:, None] + more[-1]),
        ),
    )
}


def _register(operator: Operator) -> None:
    name = f"{DOMAIN}::{operator.plain.__name__}"
    custom = torch.library.custom_op(name, operator.plain, mutates_args=())

    def remember(ctx: Any, inputs: Any, output: Any, keyword_only_inputs: Any = None) -> None:  # noqa: ARG001
        ctx.save_for_backward(*inputs)
        ctx.arguments = keyword_only_inputs or {}

    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        with torch.enable_grad():
            inputs = [item.detach().requires_grad_() for item in ctx.saved_tensors]
            results = operator.plain(*inputs, **ctx.arguments)
        return torch.autograd.grad(results, inputs, gradients)

    custom.register_fake(operator.blank)
    custom.register_autograd(backward, setup_context=remember)


for _operator in OPERATORS.values():
    _register(_operator)
