from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from toolkit.core.case import Case, save_cases
from toolkit.core.errors import UsageError
from toolkit.core.folder import RunFolder
from toolkit.core.recipe import Recipe
from toolkit.core.signature import Signature, TensorSpec
from toolkit.stages.debug import diagnose
from toolkit.stages.inspect import inspect_run

LAYERS = 6
WIDTH = 8
SIGNATURE = Signature(
    "forward",
    "any",
    (TensorSpec("x", "float32", ("batch", WIDTH)),),
    (TensorSpec("y", "float32", ("batch", WIDTH), kind="output"),),
    {"batch": (1, 8, 64)},
)
MODULE, SOURCE = "toolkit.module", "toolkit.source"


def weights() -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    return [draw.normal(size=(WIDTH, WIDTH)).astype(np.float32) / 3 for _ in range(LAYERS)]


def graph(matrices, *, provenance: bool = True, keep_names: bool = True) -> onnx.ModelProto:
    """A chain of MatMul and Tanh with a second branch that joins at the end."""
    nodes, stored, last = [], [], "x"
    for layer, matrix in enumerate(matrices):
        product, result = f"p{layer}", f"h{layer}"
        if not keep_names:
            product += "_renamed"
        stored.append(numpy_helper.from_array(matrix, f"w{layer}"))
        nodes.append(helper.make_node("MatMul", [last, f"w{layer}"], [product], f"mul_{layer}"))
        nodes.append(helper.make_node("Tanh", [product], [result], f"tanh_{layer}"))
        if provenance:
            for key, value in ((MODULE, f"layer.{layer}"), (SOURCE, f"net.py:{layer + 1}")):
                nodes[-2].metadata_props.add(key=key, value=value)
        last = result
    nodes.append(helper.make_node("Add", [last, "h1"], ["y"], "join"))
    value = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", WIDTH]) for name in "xy"
    ]
    made = helper.make_graph(nodes, "forward", value[:1], value[1:], stored)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def answer(x: np.ndarray, matrices, dtype) -> np.ndarray:
    states, last = [], x.astype(dtype)
    for matrix in matrices:
        last = np.tanh(last @ matrix.astype(dtype))
        states.append(last)
    return last + states[1]


def make_run(root, variant: onnx.ModelProto, *, shift: float = 0.0) -> RunFolder:
    folder = RunFolder(root)
    folder.entry("forward").mkdir(parents=True)
    onnx.save(graph(weights()), folder.entry("forward") / "exported.onnx")
    onnx.save(variant, folder.entry("forward") / "fp32.onnx")
    x = np.random.default_rng(1).normal(size=(32, WIDTH)).astype(np.float32)
    oracle = answer(x, weights(), np.float64) + shift
    eager = answer(x, weights(), np.float32) + np.float32(shift)
    cases = [
        Case("parity", "quiet", {"x": x[:4] * 0}, {"y": oracle[:4] * 0}, {"y": eager[:4] * 0}),
        Case("parity", "real", {"x": x}, {"y": oracle}, {"y": eager}),
        Case("batch", "other", {"x": x}),
    ]
    save_cases(folder.entry("forward") / "golden.safetensors", cases)
    entry = {"signature": SIGNATURE.as_dict(), "file": "entries/forward/exported.onnx"}
    result = {"files": [], "family": "any", "entries": {"forward": entry}, "failed": {}}
    folder.record("export", {"status": "ok", "reason": "", "result": result})
    return folder


def planted(layer: int) -> list[np.ndarray]:
    matrices = weights()
    matrices[layer][0, 0] += 0.5
    return matrices


def find(folder: RunFolder, **given):
    return diagnose(Recipe(), folder, entry="forward", variant="fp32", **given)


@pytest.mark.parametrize("layer", range(LAYERS))
def test_planted_weight_is_found_with_its_origin(tmp_path, layer):
    found = find(make_run(tmp_path / "run", graph(planted(layer))))
    assert (found.output, found.case) == ("y", "real")
    assert found.value > found.limit
    place = found.place
    assert (place.tensor, place.node, place.operator) == (f"p{layer}", f"mul_{layer}", "MatMul")
    assert (place.module, place.source) == (f"layer.{layer}", f"net.py:{layer + 1}")
    assert place.introduced == pytest.approx(place.error)
    assert place.inherited <= place.limit < place.introduced
    assert (found.compared, found.tensors) == (2 * LAYERS + 1, 2 * LAYERS + 1)


def test_two_faults_name_the_first(tmp_path):
    matrices = planted(1)
    matrices[4][0, 0] += 0.5
    assert find(make_run(tmp_path / "run", graph(matrices))).place.node == "mul_1"


def test_names_that_only_the_variant_has_are_bridged(tmp_path):
    variant = graph(planted(3), provenance=False, keep_names=False)
    found = find(make_run(tmp_path / "run", variant))
    assert found.place.tensor == "h3"
    assert found.place.between == ("MatMul", "Tanh")
    assert found.compared == LAYERS + 1


def test_lost_provenance_is_read_from_the_reference(tmp_path):
    found = find(make_run(tmp_path / "run", graph(planted(3), provenance=False)))
    assert found.place.module == "layer.3"


def test_error_without_a_culprit_is_said_to_build_up(tmp_path):
    folder = make_run(tmp_path / "run", graph(planted(2)))
    found = find(folder, fraction=10.0)
    assert "builds up" in found.verdict
    assert found.place.node == "mul_2"


def test_equal_graphs_do_not_diverge(tmp_path):
    found = find(make_run(tmp_path / "run", graph(weights())))
    assert (found.output, found.place) == ("", None)
    assert found.value <= found.limit


def test_fault_of_the_export_is_not_blamed_on_the_variant(tmp_path):
    found = find(make_run(tmp_path / "run", graph(planted(2)), shift=0.1))
    assert found.place is None
    assert "the export's" in found.verdict


def test_nan_is_a_divergence(tmp_path):
    matrices = weights()
    matrices[2][0, 0] = np.nan
    assert find(make_run(tmp_path / "run", graph(matrices))).place.node == "mul_2"


@pytest.mark.parametrize(
    ("entry", "variant", "hint"),
    [
        ("forwards", "fp32", "did you mean 'forward'"),
        ("forward", "fp23", "did you mean 'fp32'"),
        ("forward", "exported", "verify"),
    ],
)
def test_wrong_names_are_refused(tmp_path, entry, variant, hint):
    folder = make_run(tmp_path / "run", graph(weights()))
    with pytest.raises(UsageError) as error:
        diagnose(Recipe(), folder, entry=entry, variant=variant)
    assert hint in error.value.next_step


def test_the_run_can_be_inspected(tmp_path):
    folder = make_run(tmp_path / "run", graph(weights()))
    (row,) = inspect_run(folder, {"batch": 3})
    assert row["flops"]["total"] == 2 * 3 * WIDTH * WIDTH * LAYERS
