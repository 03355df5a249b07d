"""Small graphs written as ONNX text, with the shapes that an export has."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import numpy_helper, parser

HEADER = '<ir_version: 10, opset_import: ["": 20]>'
Build = Callable[..., ir.Model]
Answer = Callable[..., list[np.ndarray]]


@pytest.fixture
def build() -> Build:
    """Return a function from a graph's text and its constants to a model."""

    def make(text: str, **arrays: np.ndarray) -> ir.Model:
        model = parser.parse_model(HEADER + text)
        for key, array in arrays.items():
            typed = array.astype(np.float32) if array.dtype == np.float64 else array
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(typed), key))
        for node in model.graph.node:
            node.metadata_props.add(key="namespace", value=f"module.{node.output[0]}")
        return ir.from_proto(onnx.shape_inference.infer_shapes(model, data_prop=True))

    return make


@pytest.fixture
def answer() -> Answer:
    """Return a function that runs a model on inputs in the graph's order."""

    def run(model: ir.Model, *values: np.ndarray) -> list[np.ndarray]:
        session = onnxruntime.InferenceSession(
            ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"]
        )
        feeds = dict(zip((item.name for item in session.get_inputs()), values, strict=True))
        outputs: list[np.ndarray] = session.run(None, feeds)
        return outputs

    return run


@pytest.fixture
def draw() -> np.random.Generator:
    return np.random.default_rng(0)
