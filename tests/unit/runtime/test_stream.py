"""Streams: states in place where the graph allows it, any chunk size, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from toolkit.core.errors import UsageError
from toolkit.core.signature import Signature, TensorSpec
from toolkit.runtime.graph import Graph
from toolkit.runtime.stream import Stream

BATCH, STEPS = 2, 9
X = np.random.default_rng(0).normal(size=(STEPS, BATCH, 3)).astype(np.float32)


def spec(name: str, kind: str, dims: tuple[int | str, ...] = ("batch", 3)) -> TensorSpec:
    dtype = "int64" if name == "time" else "float32"
    return TensorSpec(name, dtype, dims, kind, low=0 if name == "time" else None,
                      high=STEPS - 1 if name == "time" else None)  # fmt: skip


def graph_of(path: Path, nodes: list[onnx.NodeProto], *, time: bool = False) -> Graph:
    """Return a graph of x and the states a and b."""
    inputs = [spec("x", "data"), spec("a", "state"), spec("b", "state")]
    if time:
        inputs.insert(1, spec("time", "data", ()))
    outputs = [spec(name, "output") for name in ("y", "next_a", "next_b")]

    def told(item: TensorSpec) -> onnx.ValueInfoProto:
        element = TensorProto.INT64 if item.dtype == "int64" else TensorProto.FLOAT
        return helper.make_tensor_value_info(item.name, element, list(item.dims))

    made = helper.make_graph(nodes, "step", list(map(told, inputs)), list(map(told, outputs)))
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, path / "step.onnx")
    signature = Signature("step", "", tuple(inputs), tuple(outputs))
    return Graph(path / "step.onnx", signature)


def node(operator: str, inputs: str, output: str) -> onnx.NodeProto:
    return helper.make_node(operator, inputs.split(), [output])


FREE = [node("Add", "x a", "next_a"), node("Mul", "x b", "next_b"), node("Add", "x x", "y")]
CROSSED = [node("Add", "x b", "next_a"), node("Sub", "x a", "next_b"), node("Add", "a b", "y")]


def by_hand(crossed: bool) -> list[np.ndarray]:
    a, b = np.zeros((2, BATCH, 3), np.float32)
    found = []
    for x in X:
        found.append(a + b if crossed else x + x)
        a, b = (x + b, x - a) if crossed else (x + a, x * b)
    return found


@pytest.mark.parametrize("size", [1, 3, 7, STEPS])
@pytest.mark.parametrize("crossed", [False, True])
def test_chunks_of_any_size_give_the_same(tmp_path: Path, size: int, crossed: bool) -> None:
    stream = Stream(graph_of(tmp_path, CROSSED if crossed else FREE), batch=BATCH)
    for _ in range(2):
        parts = [stream.push(X[start : start + size]) for start in range(0, STEPS, size)]
        np.testing.assert_array_equal(np.concatenate(parts), by_hand(crossed))
        stream.reset()
    np.testing.assert_array_equal(stream.step(X[0]), by_hand(crossed)[0])


def test_only_states_that_no_later_node_reads_stay_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Stream(graph_of(tmp_path, FREE), batch=BATCH).in_place == ("a", "b")
    crossed = graph_of(tmp_path, CROSSED)
    assert len(Stream(crossed, batch=BATCH).in_place) < 2
    # What the trial keeps apart is wrong in place.
    monkeypatch.setattr(Stream, "_allows", lambda *_: True)
    wrong = Stream(crossed, batch=BATCH)
    assert wrong.in_place == ("a", "b")
    assert not np.array_equal(wrong.push(X), by_hand(True))


def test_states_begin_as_given(tmp_path: Path) -> None:
    graph = graph_of(tmp_path, CROSSED)
    stream = Stream(graph, batch=BATCH, given={"a": X[3], "b": X[4]})
    np.testing.assert_array_equal(stream.step(X[0]), X[3] + X[4])
    stream.reset()
    np.testing.assert_array_equal(stream.step(X[0]), X[3] + X[4])


def test_the_end_of_the_sequence_and_wrong_chunks_are_refused(tmp_path: Path) -> None:
    nodes = [
        node("Cast", "time", "now"),
        node("Add", "a now", "next_a"),
        node("Identity", "b", "next_b"),
        node("Add", "x now", "y"),
    ]
    nodes[0].attribute.append(helper.make_attribute("to", TensorProto.FLOAT))
    stream = Stream(graph_of(tmp_path, nodes, time=True), batch=BATCH)
    np.testing.assert_array_equal(
        stream.push(X[:6])[:, 0, 0], X[:6, 0, 0] + np.arange(6, dtype="f")
    )
    with pytest.raises(UsageError, match="10 steps, the graph takes 9"):
        stream.push(X[:4])
    stream.push(X[:3])
    with pytest.raises(UsageError, match="float64"):
        stream.push(X[:1].astype(np.float64))
    with pytest.raises(UsageError, match=r"float32\[1, 3\]"):
        stream.push(X[0, :1])


def test_what_is_no_step_is_refused(tmp_path: Path) -> None:
    graph = graph_of(tmp_path, FREE)
    graph.signature = Signature("f", "", graph.signature.inputs[:1], graph.signature.outputs)
    with pytest.raises(UsageError, match="'f' is no step"):
        Stream(graph)


def test_on_another_device_every_call_copies_its_inputs_and_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = graph_of(tmp_path, FREE)
    # The session is the processor's; only its list of providers is a double.
    monkeypatch.setattr(graph._session, "get_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(graph._session, "io_binding", lambda: pytest.fail("bound once for all"))
    feeds = {name: np.ones((BATCH, 3), np.float32) for name in ("x", "a", "b")}
    results = {name: np.empty((BATCH, 3), np.float32) for name in ("y", "next_a", "next_b")}
    call = graph.bound(feeds, results)
    for x in (1.0, 5.0):
        feeds["x"][...] = x
        call()
        assert (results["next_a"] == x + 1).all()
        assert (results["y"] == 2 * x).all()
