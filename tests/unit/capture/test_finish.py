from __future__ import annotations

import onnx_ir as ir
import pytest
import torch

from toolkit.capture.finish import LAYOUT, finish
from toolkit.core.entry import Entry, Input
from toolkit.passes._graph import operators


def turned_and_back():
    """Return a graph whose two Transposes cancel around an exponential."""
    x = ir.val("x", ir.DataType.FLOAT, [ir.SymbolicDim("s0"), 3])
    there = ir.node("Transpose", [x], attributes={"perm": [1, 0]})
    there.outputs[0].shape = ir.Shape([3, "s0"])
    exp = ir.node("Exp", there.outputs)
    exp.outputs[0].shape = ir.Shape([3, "s0"])
    back = ir.node("Transpose", exp.outputs, attributes={"perm": [1, 0]})
    back.outputs[0].name, back.outputs[0].shape = "y", ir.Shape(["s0", 3])
    for node in (there, exp, back):
        node.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
        node.metadata_props["pkg.torch.onnx.stack_trace"] = 'File "deep/me/flow.py", line 7, in f'
    graph = ir.Graph(
        [x], back.outputs, nodes=[there, exp, back], opset_imports={"": 20}, name="graph"
    )
    return ir.Model(graph, ir_version=10)


def entry():
    item = Input("x", torch.zeros(2, 3), dims=("batch", None))
    return Entry("f", torch.exp, (item,))


def test_an_exported_graph_has_no_transposes_that_cancel():
    model = turned_and_back()
    finish(model, entry(), static=False)
    assert operators(model) == {"Exp": 1}
    (node,) = model.graph
    assert node.metadata_props == {"toolkit.source": "me/flow.py:7 in f"}
    assert [str(size) for size in model.graph.outputs[0].shape] == ["batch", "3"]
    assert [value.name for value in model.graph.outputs] == ["y"]


@pytest.mark.parametrize("name", LAYOUT)
def test_what_every_export_goes_through_serves_every_runtime(name):
    from toolkit.core.registry import passes

    assert passes.load(name).portable
