"""Nothing near zero or one is taken for it."""

from __future__ import annotations

import onnx_ir as ir
import pytest
from onnxscript import optimizer

from toolkit.passes._exact import optimize


def graph(operator: str, constant: float, *, first: bool) -> ir.Model:
    x = ir.Value(name="x", shape=ir.Shape([3]), type=ir.TensorType(ir.DataType.FLOAT))
    c = ir.Value(name="c", const_value=ir.tensor(constant, dtype=ir.DataType.FLOAT, name="c"))
    node = ir.Node("", operator, [c, x] if first else [x, c])
    node.outputs[0].name, node.outputs[0].shape, node.outputs[0].type = "y", x.shape, x.type
    body = ir.Graph([x], node.outputs, nodes=[node], initializers=[c], opset_imports={"": 20})
    return ir.Model(body, ir_version=10)


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph if node.op_type != "Identity"]


CASES = [("Mul", 1.0), ("Div", 1.0), ("Add", 0.0), ("Sub", 0.0)]


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize(("operator", "neutral"), CASES)
def test_only_exact_numbers_are_dropped(operator: str, neutral: float, first: bool) -> None:
    beside = neutral - 1e-6 if neutral else 1e-9
    model = graph(operator, beside, first=first)
    optimize(model)
    assert operators(model) == [operator]
    model = graph(operator, neutral, first=first)
    optimize(model)
    assert operators(model) == ([operator] if first and operator in ("Div", "Sub") else [])


def test_the_library_itself_drops_them() -> None:
    model = graph("Mul", 1 - 1e-6, first=False)
    optimizer.optimize_ir(model)
    assert operators(model) == []
