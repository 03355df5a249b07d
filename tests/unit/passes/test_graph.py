"""What passes share: names."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from toolkit.passes._graph import name_apart


def constants(*names: str) -> list[ir.Value]:
    arrays = {name: ir.tensor(np.array([index]), name=name) for index, name in enumerate(names)}
    return [ir.Value(name=name, const_value=tensor) for name, tensor in arrays.items()]


def summed(terms: list[ir.Value], name: str) -> ir.Node:
    return ir.Node("", "Sum", terms, outputs=[ir.Value(name=name)], name=name)


def test_names_of_a_branch_differ_from_those_around_it_and_from_one_another() -> None:
    outer, inner = constants("c", "k"), constants("c", "c_1", "k")
    node = summed(inner, "y")
    branch = ir.Graph([], node.outputs, nodes=[node], initializers=inner, name="branch")
    condition = ir.Value(name="condition")
    choice = ir.Node(
        "",
        "If",
        [condition],
        [ir.AttrGraph("then_branch", branch), ir.AttrGraph("else_branch", branch.clone())],
        outputs=[ir.Value(name="chosen")],
        name="choice",
    )
    total = summed([*outer, choice.outputs[0]], "total")
    graph = ir.Graph(
        [condition],
        total.outputs,
        nodes=[choice, total],
        initializers=outer,
        opset_imports={"": 20},
        name="graph",
    )
    model = ir.Model(graph, ir_version=10)
    name_apart(model)
    around = {"condition", "c", "k", "chosen", "total"}
    assert {*graph.initializers, *(v.name for n in graph for v in n.outputs)} < around
    names = [
        [*inside.initializers, *(n.outputs[0].name for n in inside)]
        for inside in model.graphs()
        if inside is not graph
    ]
    assert len(names) == 2
    for inside in names:
        assert len(set(inside)) == 4
        assert not around & set(inside)
