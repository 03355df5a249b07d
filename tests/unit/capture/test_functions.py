from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from onnxscript.optimizer import optimize_ir
from torch.export import Dim

from toolkit.capture import functions
from toolkit.capture.capture import capture
from toolkit.capture.dynamo import Form
from toolkit.core.entry import Entry, Input
from toolkit.core.errors import ExportError
from toolkit.lowerings import table
from toolkit.nn.causal import CausalConv1d
from toolkit.nn.operators import DOMAIN, OPERATORS

BINS = 4
SPLINE = OPERATORS["RationalQuadraticSpline"]
OUTPUTS = 2


class Flow(torch.nn.Module):
    """Two splines of one kind and one inverse, whose bound no 32-bit number holds."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.network = torch.nn.Linear(3, 3 * (3 * BINS - 1), dtype=torch.float64)

    def forward(self, x):
        made = self.network(x.tanh()).unflatten(-1, (3, -1)).split([BINS, BINS, BINS - 1], -1)
        ends = {"left": -torch.pi, "right": torch.pi, "bottom": -torch.pi, "top": torch.pi}
        y, first = SPLINE(x, *made, **ends)
        z, second = SPLINE(y, *made, **ends)
        back, third = SPLINE(z + 0.5, *made, inverse=True, **ends)
        return back, (first + second + third).sum(-1)


def exported():
    torch._dynamo.reset()
    with torch.no_grad():
        program = torch.export.export(
            Flow(),
            (torch.zeros(5, 3, dtype=torch.float64),),
            dynamic_shapes=({0: Dim("batch")},),
            strict=False,
        )
        return torch.onnx.export(
            program,
            dynamo=True,
            custom_translation_table=table(),
            opset_version=20,
            optimize=False,
            verbose=False,
        ).model


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("functions") / "flow.onnx"
    ir.save(exported(), path)
    return path


@pytest.fixture
def model(saved):
    return ir.load(saved)


def own_nodes(model):
    return [node for node in model.graph.all_nodes() if node.domain == DOMAIN]


def session(model):
    return onnxruntime.InferenceSession(
        ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"]
    )


def worst(session, batch):
    draws = torch.Generator().manual_seed(batch)
    x = 3 * torch.randn(batch, 3, generator=draws, dtype=torch.float64)
    found = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad():
        truth = [item.numpy() for item in Flow()(x)]
    return max(np.abs(a - b).max() for a, b in zip(found, truth, strict=True))


def test_the_export_alone_leaves_one_node_for_each_spline(model):
    assert [node.op_type for node in own_nodes(model)] == ["RationalQuadraticSpline"] * 3
    with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.Fail):
        session(model)


def test_a_runtime_that_never_heard_of_the_domain_runs_the_functions(model):
    assert functions.attach(model) == len(own_nodes(model)) == 3
    # The two splines of one kind share a function; the inverse has its own.
    assert sorted(node.overload for node in own_nodes(model)) == ["1", "1", "2"]
    assert len(model.functions) == 2
    onnx.checker.check_model(ir.to_proto(model))
    made = session(model)
    for batch in (1, 5, 17):
        assert worst(made, batch) < 1e-12


def test_inlined_they_are_standard_operators_with_the_same_values(model):
    functions.attach(model)
    functions.inline(model)
    assert not own_nodes(model)
    assert not model.functions
    assert set(model.graph.opset_imports) == {""}
    onnx.checker.check_model(ir.to_proto(model))
    made = session(model)
    for batch in (1, 5, 17):
        assert worst(made, batch) < 1e-12


def test_an_optimizer_that_does_not_inline_keeps_them(model):
    functions.attach(model)
    optimize_ir(model, inline=False)
    assert len(own_nodes(model)) == 3
    assert worst(session(model), 5) < 1e-12


def test_a_wrong_body_is_noticed(model):
    functions.attach(model)
    body = next(iter(model.functions.values()))
    node = next(node for node in body if node.op_type == "Exp")
    node.op_type = "Abs"
    assert worst(session(model), 5) > 1e-3


def test_attaching_twice_makes_the_same_bytes(saved):
    found = set()
    for _ in range(2):
        model = ir.load(saved)
        functions.attach(model)
        found.add(ir.to_proto(model).SerializeToString(deterministic=True))
    assert len(found) == 1


def test_the_signature_for_the_manifest(model):
    functions.attach(model)
    (found,) = functions.describe(model)
    assert found["name"] == "RationalQuadraticSpline"
    assert (found["domain"], found["version"]) == (DOMAIN, 1)
    assert found["inputs"] == ["x", "widths", "heights", "derivatives"]
    assert found["outputs"] == ["y", "log_det"]
    assert found["attributes"]["inverse"] == "bool"
    assert found["attributes"]["left"] == "float"
    for function in model.functions.values():
        assert list(function.attributes) == list(found["attributes"])
        assert [value.name for value in function.inputs] == found["inputs"]
    functions.inline(model)
    assert functions.describe(model) == []


def test_a_model_without_them_is_left_as_it_is():
    x = ir.val("x", ir.DataType.FLOAT, [2])
    node = ir.node("Abs", [x])
    model = ir.Model(
        ir.Graph([x], node.outputs, nodes=[node], opset_imports={"": 20}, name="g"), ir_version=10
    )
    before = ir.to_proto(model).SerializeToString()
    assert functions.attach(model) == 0
    assert ir.to_proto(model).SerializeToString() == before


@pytest.mark.parametrize(
    ("op_type", "shape", "reason"),
    [
        ("CubeRoot", [2], "no operator CubeRoot"),
        ("PiecewiseLinearSpline", None, "no known shape"),
    ],
)
def test_what_has_no_body_is_refused(op_type, shape, reason):
    x = ir.val("x", ir.DataType.FLOAT, shape)
    node = ir.node(op_type, [x, x], domain=DOMAIN, num_outputs=OUTPUTS)
    model = ir.Model(
        ir.Graph([x], node.outputs, nodes=[node], opset_imports={"": 20}, name="g"), ir_version=10
    )
    with pytest.raises(ExportError, match=reason):
        functions.attach(model)


class Stepped(torch.nn.Module):
    """One step of two masked convolutions: an op of the domain for each."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.ModuleList([CausalConv1d(3, 4, 3), CausalConv1d(4, 2, 2)])

    def forward(self, x, first, second):
        x, after = self.layers[0].step(x, first)
        y, later = self.layers[1].step(x.relu(), second)
        return y, after, later


@pytest.mark.parametrize("custom_ops", ["function", "inline"])
def test_a_step_of_a_masked_convolution_is_a_function_or_its_operators(tmp_path, custom_ops):
    model = Stepped().eval()
    states = [layer.init_state(2) + 1 for layer in model.layers]
    inputs = (torch.randn(2, 3), *states)
    dims = [("batch", *[None] * (item.ndim - 1)) for item in inputs]
    named = [Input(f"in_{i}", *pair) for i, pair in enumerate(zip(inputs, dims, strict=True))]
    entry = Entry("step", inputs=named, outputs=("y", "after", "later"))
    captured = capture(model, entry, tmp_path / "step.onnx", form=Form(custom_ops=custom_ops))
    made = ir.load(tmp_path / "step.onnx")
    expected = ["MaskedConvolutionStep"] * 2 if custom_ops == "function" else []
    assert [node.op_type for node in own_nodes(made)] == expected
    assert [item["name"] for item in captured.as_dict()["custom_ops"]] == expected[:1]
    found = session(made).run(None, {f"in_{i}": item.numpy() for i, item in enumerate(inputs)})
    for mine, truth in zip(found, model(*inputs), strict=True):
        np.testing.assert_allclose(mine, truth.detach().numpy(), atol=1e-6)
