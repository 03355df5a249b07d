"""Every backend: same feeds, same outputs as eager; closes cleanly; says how to install it."""

import importlib.util
import re
import shutil

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from toolkit.core import registry
from toolkit.core.protocols import Artifact
from toolkit.core.signature import Signature, TensorSpec

SIGNATURE = Signature(
    entry="forward",
    family="",
    inputs=(
        TensorSpec("x", "float32", ("batch", 4)),
        TensorSpec("shift", "float32", ("batch", 1)),
    ),
    outputs=(TensorSpec("y", "float32", ("batch", 4)), TensorSpec("total", "float32", ("batch",))),
    ranges={"batch": (1, 2, 8)},
)


class Tiny(nn.Module):
    def forward(self, x, shift):
        y = torch.tanh(x * 2.0 + shift)
        return y, y.sum(1)


def tiny_graph():
    nodes = [
        helper.make_node("Mul", ["x", "two"], ["scaled"]),
        helper.make_node("Add", ["scaled", "shift"], ["shifted"]),
        helper.make_node("Tanh", ["shifted"], ["y"]),
        helper.make_node("ReduceSum", ["y", "axes"], ["total"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [
            helper.make_tensor_value_info(spec.name, TensorProto.FLOAT, spec.dims)
            for spec in SIGNATURE.inputs
        ],
        [
            helper.make_tensor_value_info(spec.name, TensorProto.FLOAT, spec.dims)
            for spec in SIGNATURE.outputs
        ],
        [
            helper.make_tensor("two", TensorProto.FLOAT, [], [2.0]),
            helper.make_tensor("axes", TensorProto.INT64, [1], [1]),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.fixture
def artifact(tmp_path):
    path = tmp_path / "tiny.onnx"
    onnx.save(tiny_graph(), path)
    return Artifact(path, SIGNATURE, "fp32", module=Tiny)


@pytest.fixture(params=registry.backends.names())
def backend(request):
    return registry.backends.load(request.param)


@pytest.fixture
def usable(backend):
    if reason := backend.absent():
        pytest.skip(reason)
    if "engine" in backend.formats:
        pytest.skip("an engine has to be built first: tests of the build stage")
    return backend


def feeds(batch):
    generator = np.random.default_rng(batch)
    return {
        spec.name: generator.normal(size=(batch, spec.dims[1])).astype(np.float32)
        for spec in SIGNATURE.inputs
    }


def eager(given):
    with torch.inference_mode():
        y, total = Tiny()(*(torch.tensor(given[spec.name]) for spec in SIGNATURE.inputs))
    return {"y": y.numpy(), "total": total.numpy()}


def test_same_feeds_same_outputs_as_eager(usable, artifact):
    runner = usable.open(artifact)
    for batch in (1, 3):
        given = feeds(batch)
        answer, expected = runner(dict(reversed(given.items()))), eager(given)
        assert list(answer) == ["y", "total"]
        for name in expected:
            assert answer[name].dtype == np.float32
            np.testing.assert_allclose(answer[name], expected[name], rtol=1e-5, atol=1e-6)
    runner.close()


def test_a_prepared_call_leaves_feeds_and_later_answers_alone(usable, artifact):
    runner = usable.open(artifact)
    given = feeds(2)
    kept = {name: array.copy() for name, array in given.items()}
    call = runner.prepare(given)
    for _ in range(3):
        call()
    np.testing.assert_allclose(runner(given)["y"], eager(kept)["y"], rtol=1e-5, atol=1e-6)
    assert all(np.array_equal(given[name], kept[name]) for name in kept)
    runner.close()


def test_closes_cleanly_and_opens_again(usable, artifact):
    threads = torch.get_num_threads()
    first = usable.open(artifact, threads=threads + 1)
    first(feeds(1))
    first.close()
    assert torch.get_num_threads() == threads
    second = usable.open(artifact)
    second(feeds(1))
    second.close()


def test_says_how_to_install_what_is_missing(backend, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: None)
    monkeypatch.setattr(shutil, "which", lambda *_: None)
    assert re.search(r"(pip|apt) install \S", backend.absent())
