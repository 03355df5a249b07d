"""Every lowering gives torch's answers in ONNX Runtime: random and edge inputs, any batch."""

from __future__ import annotations

import functools

import numpy as np
import onnxruntime
import pytest
import torch
from onnxscript import opset18 as op
from torch.export import Dim

from toolkit.capture import functions
from toolkit.core.registry import lowerings
from toolkit.lowerings import table
from toolkit.runtime.limits import judge

pytestmark = [
    pytest.mark.filterwarnings("ignore:torch.triangular_solve is deprecated"),
    pytest.mark.filterwarnings("ignore:torch.cholesky is deprecated"),
]
EXAMPLES = {
    (name, example): call
    for name, lowering in lowerings.items()
    for example, call in lowering.examples().items()
}
TYPES = {"float32": torch.float32, "float64": torch.float64}


class Calls(torch.nn.Module):
    """All calls of a lowering side by side, so that one export serves them all."""

    def __init__(self, examples):
        super().__init__()
        self.examples = examples

    def forward(self, *tensors):
        rest, results = list(tensors), []
        for example in self.examples.values():
            mine = [rest.pop(0) for _ in example.inputs]
            results.append(tuple_of(example.call(*mine)))
        return tuple(results)


def tuple_of(result):
    return tuple(result) if isinstance(result, tuple | list) else (result,)


def in_type(tensor, dtype):
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def export(examples, dtype, translations):
    """Return a session of all examples, every batch axis dynamic."""
    torch._dynamo.reset()
    inputs, shapes = [], []
    for example in examples.values():
        for position, tensor in enumerate(example.inputs):
            inputs.append(in_type(tensor, dtype))
            shapes.append({} if position in example.shared else {0: Dim.DYNAMIC})
    program = torch.export.export(
        Calls(examples), tuple(inputs), dynamic_shapes=(tuple(shapes),), strict=False
    )
    onnx = torch.onnx.export(
        program,
        dynamo=True,
        opset_version=20,
        custom_translation_table=translations,
        optimize=False,
        verbose=False,
    )
    functions.attach(onnx.model)
    return onnxruntime.InferenceSession(
        onnx.model_proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )


@functools.cache
def session_of(name, dtype):
    """Return a lowering's session, and which of its overloads the exporter asked for."""
    reached = set()

    def recorded(overload, translation):
        @functools.wraps(translation)
        def call(*args, **kwargs):
            reached.add(overload)
            return translation(*args, **kwargs)

        return call

    lowering = lowerings.load(name)
    translations = table()
    for overload, translation in lowering().items():
        translations[overload] = recorded(overload, translation)
    return export(lowering.examples(), TYPES[dtype], translations), reached


def answers(session, examples, feeds):
    """Return each example's outputs; `feeds` holds its inputs."""
    flat = [value for name in examples for value in feeds[name]]
    values = session.run(
        None, {item.name: v.numpy() for item, v in zip(session.get_inputs(), flat, strict=True)}
    )
    results = {}
    for name, example in examples.items():
        count = len(tuple_of(example.call(*feeds[name])))
        results[name], values = values[:count], values[count:]
    return results


def resized(example, inputs, batch):
    """Return the inputs with their rows repeated or dropped until there are `batch` of them."""
    return [
        value if position in example.shared else value[torch.arange(batch) % len(value)]
        for position, value in enumerate(inputs)
    ]


def verdict(candidate, eager, oracle):
    """Return what is wrong with one output, or nothing."""
    eager, oracle = eager.numpy(), oracle.numpy()
    if candidate.shape != eager.shape or candidate.dtype != eager.dtype:
        return f"{candidate.shape} {candidate.dtype}, torch gives {eager.shape} {eager.dtype}"
    if not np.issubdtype(eager.dtype, np.floating):
        return "" if np.array_equal(candidate, eager) else "integers differ"
    holes = np.isnan(eager)
    if not np.array_equal(holes, np.isnan(candidate)):
        return "NaN at other places"
    good, value, limit, _ = judge(candidate[~holes], oracle[~holes], eager[~holes], k=4.0)
    return "" if good else f"error {value:.3g}, limit {limit:.3g}"


def test_the_table_holds_every_lowering():
    merged = table()
    for name in lowerings.names():
        for overload in lowerings.load(name)():
            assert overload in merged, (name, overload)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("name", "example"), EXAMPLES)
def test_gives_torchs_answers_at_every_batch(name, example, dtype):
    (session, _), examples = session_of(name, dtype), lowerings.load(name).examples()
    for batch in (None, 1, 3, 7):
        feeds = {}
        for key, item in examples.items():
            inputs = [in_type(value, TYPES[dtype]) for value in item.inputs]
            feeds[key] = inputs if batch is None else resized(item, inputs, batch)
        own = examples[example]
        eager = tuple_of(own.call(*feeds[example]))
        oracle = tuple_of(own.call(*(in_type(v, torch.float64) for v in feeds[example])))
        for got, e, o in zip(
            answers(session, examples, feeds)[example], eager, oracle, strict=True
        ):
            assert verdict(got, e, o) == "", batch


@pytest.mark.parametrize("name", lowerings.names())
def test_every_overload_is_reached_by_an_example(name):
    _, reached = session_of(name, "float32")
    assert reached == set(lowerings.load(name)())


def test_a_wrong_translation_is_noticed():
    def wrong(self):
        return op.Mul(self, 0.886226925)

    item = EXAMPLES["erfinv", "tails"]
    examples = {"tails": item}
    tampered = {**table(), **dict.fromkeys(lowerings.load("erfinv")(), wrong)}
    session = export(examples, torch.float32, tampered)
    inputs = [in_type(value, torch.float32) for value in item.inputs]
    (got,) = answers(session, examples, {"tails": inputs})["tails"]
    eager, oracle = item.call(*inputs), item.call(*(value.double() for value in inputs))
    assert verdict(got, eager, oracle).startswith("error")
