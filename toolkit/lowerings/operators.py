"""The toolkit's operators as one node of its domain, which `capture.functions` gives a body."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import onnx
import torch
from onnxscript import values
from torch import Tensor

from toolkit.core.protocols import Example
from toolkit.nn.operators import DOMAIN, OPERATORS, VERSION, Operator

ARGUMENTS = "toolkit.arguments"
TYPES = ["tensor(float16)", "tensor(float)", "tensor(double)"]
_OPSET = values.Opset(DOMAIN, VERSION)


def schema(operator: Operator) -> onnx.defs.OpSchema:
    """Return an operator's ONNX signature."""
    kinds = onnx.defs.OpSchema.AttrType
    types = {bool: kinds.INT, int: kinds.INT, float: kinds.FLOAT, str: kinds.STRING}
    tensor = onnx.defs.OpSchema.FormalParameter
    return onnx.defs.OpSchema(
        operator.op_type,
        DOMAIN,
        VERSION,
        doc=(operator.plain.__doc__ or "").partition("\n")[0],
        inputs=[tensor(name, "T") for name in operator.inputs],
        outputs=[tensor(name, "T") for name in operator.outputs],
        type_constraints=[("T", TYPES, "")],
        attributes=[
            onnx.defs.OpSchema.Attribute(name, types[type(default)], required=False)
            for name, default in operator.attributes.items()
        ],
    )


def _translation(operator: Operator) -> Callable[..., Any]:
    """Return what emits the one node.

    ONNX keeps an attribute's number in 32 bits, so the node's metadata holds all of them exactly.
    """
    emit = values.Op(_OPSET, operator.op_type, schema(operator))

    def translation(*tensors: Any, **given: Any) -> Any:
        arguments = {**operator.attributes, **given}
        made = emit(*tensors, **{n: _attribute(value) for n, value in arguments.items()})
        first = made if len(operator.outputs) == 1 else made[0]
        first.producer().metadata_props[ARGUMENTS] = json.dumps(arguments)
        return made

    return translation


def _attribute(value: Any) -> Any:
    return int(value) if isinstance(value, bool) else value


class Operators:
    """Every operator of `nn.operators`: splines, and one position of a masked convolution."""

    def __call__(self) -> Mapping[torch._ops.OpOverload, Callable[..., Any]]:
        """Return the table."""
        return {operator.overload: _translation(operator) for operator in OPERATORS.values()}

    def examples(self) -> Mapping[str, Example]:
        """Return both directions inside, outside and at the edges, all tails and parameters."""
        names = torch.ops.toolkit
        quadratic, one_table = names.rational_quadratic, names.piecewise_linear
        draws = torch.Generator().manual_seed(0)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=draws, dtype=torch.float64)

        x = draw(9, 3).clamp(-2, 2)
        x[:2] = torch.tensor([[1.0, -1.0, 0.0], [-0.0, 1.5, -2.0]])
        widths, heights, places = draw(9, 3, 4), draw(9, 3, 4), draw(9, 3, 4).sigmoid()
        inner, ends = draw(9, 3, 3), draw(9, 3, 5)
        tilts = draw(9, 3, 2)
        given = widths.softmax(-1), heights.softmax(-1), ends.exp()
        box = {"left": -2.0, "right": 1.5, "bottom": -1.0, "top": 3.0}
        exponential = {"parameters": "exp", "min_bin_width": 0.0, "right": math.pi}
        back = {"inverse": True}
        cases: dict[str, tuple[Any, dict[str, Any], tuple[Tensor, ...]]] = {
            "quadratic": (quadratic, {}, (x, widths, heights, inner)),
            "quadratic back": (quadratic, back, (x, widths, heights, inner)),
            "quadratic in a box": (
                quadratic,
                {"tails": "none", **box, **back},
                (x, widths, heights, ends),
            ),
            "circular": (quadratic, {"tails": "circular"}, (x, widths, heights, places)),
            "exponential": (quadratic, exponential, (x, widths, heights, inner)),
            "given": (quadratic, {"parameters": "given", **back}, (x, *given)),
            "linear": (names.rational_linear, {}, (x, *given, places)),
            "linear back": (names.rational_linear, back, (x, *given, places)),
            "equal bins": (one_table, {"tails": "linear", **box}, (x, widths)),
            "equal bins back": (one_table, back, (x, widths)),
            "density": (names.piecewise_quadratic, box, (x, widths, ends)),
            "density back": (
                names.piecewise_quadratic,
                {"tails": "linear", **back},
                (x, widths, inner),
            ),
            "cubic": (names.piecewise_cubic, box, (x, widths, heights, tilts)),
            "cubic back": (
                names.piecewise_cubic,
                {"tails": "linear", "least_cubic": 1e-3, **back},
                (x, widths, heights, tilts),
            ),
        }
        shared = Example(
            quadratic.default, (x, draw(3, 4), draw(3, 4), draw(3, 3)), shared=(1, 2, 3)
        )
        pixels = (draw(9, 3), draw(9, 3, 4), draw(5, 3), draw(5, 3, 4), draw(5))
        step = Example(names.masked_convolution_step.default, pixels, shared=(2, 3, 4))
        return {
            "masked convolution": step,
            "one table for all": shared,
            **{
                name: Example(partial(operator.default, **arguments), inputs)
                for name, (operator, arguments, inputs) in cases.items()
            },
        }


lowering = Operators()
