"""The floor of a step: its products alone, at their shapes and working set, and its other nodes.

Both are measured here, in a `Scan` as samplers run in: the products of the hand-made layout one
after the other, and a chain of trivial nodes. What the products take is weights over bandwidth, of
the cache in which these weights lie together, and at this number of rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from _samplers.subjects import Product, Subject

STEPS = 200
CHAIN = 64
OPSET = 21


@dataclass(frozen=True, slots=True)
class Bench:
    """What is run to find the floor.

    Arguments:
        products: `STEPS` steps of the products alone.
        chain: As many steps of `CHAIN` trivial nodes.
        empty: As many steps of one trivial node.
        count: How many products a step has.
        bytes: Of the weights, and of other right sides, that a step touches.
    """

    products: Callable[[], object]
    chain: Callable[[], object]
    empty: Callable[[], object]
    count: int
    bytes: int


def bench(subject: Subject, batch: int) -> Bench:
    """Return what is timed for a model's floor."""
    count = sum(product.count for product in subject.products)
    right = sum(
        4 * product.count * product.inner * product.outer * max(1, product.stacked * batch)
        for product in subject.products
    )
    return Bench(
        _scanned(partial(_products, subject, batch)),
        _scanned(partial(_chain, CHAIN)),
        _scanned(partial(_chain, 1)),
        count,
        right,
    )


def floor_us(times: dict[str, float], made: Bench, nodes: int) -> dict[str, float]:
    """Return the floor of one step in microseconds and what it is made of.

    Arguments:
        times: Nanoseconds of a call of each part of the bench.
        made: The bench.
        nodes: Nodes of a step of the hand-made layout.
    """
    node = (times["chain"] - times["empty"]) / STEPS / (CHAIN - 1) / 1e3
    products = times["products"] / STEPS / 1e3
    others = (nodes - made.count) * node
    return {
        "node_us": node,
        "products_us": products,
        "gigabytes_per_s": made.bytes / products / 1e3,
        "floor_us": products + others,
    }


def _scanned(fill: Callable[[_Body], None]) -> Callable[[], object]:
    body = _Body()
    fill(body)
    session = onnxruntime.InferenceSession(
        body.model().SerializeToString(), _options(), providers=["CPUExecutionProvider"]
    )
    feeds = {"ticks": np.zeros((STEPS, 1), np.float32)}
    return partial(session.run, None, feeds)


def _options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return options


class _Body:
    """A scan's body in the making; its values are states that stay as they are."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.states: dict[str, list[int]] = {}
        self.results: list[tuple[str, list[int]]] = []

    def constant(self, shape: list[int]) -> str:
        draws = np.random.default_rng(len(self.constants))
        value = draws.normal(size=shape).astype(np.float32)
        self.constants.append(numpy_helper.from_array(value, f"constant_{len(self.constants)}"))
        return self.constants[-1].name

    def state(self, shape: list[int]) -> str:
        name = "state_" + "_".join(map(str, shape))
        self.states[name] = shape
        return name

    def add(self, kind: str, *inputs: str) -> str:
        name = f"value_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name))
        return name

    def model(self) -> onnx.ModelProto:
        value = partial(helper.make_tensor_value_info, elem_type=TensorProto.FLOAT)
        passed = []
        for name, shape in self.states.items():
            self.nodes.append(helper.make_node("Identity", [name], [f"next_{name}"]))
            passed.append(value(f"next_{name}", shape=shape))
        body = helper.make_graph(
            self.nodes,
            "body",
            [value(name, shape=shape) for name, shape in self.states.items()]
            + [value("tick", shape=[1])],
            passed + [value(name, shape=shape) for name, shape in self.results],
        )
        firsts = [
            numpy_helper.from_array(np.full(shape, 0.1, np.float32), f"first_{name}")
            for name, shape in self.states.items()
        ]
        ends = [f"end_{index}" for index in range(len(self.states) + len(self.results))]
        scan = helper.make_node(
            "Scan",
            [*(first.name for first in firsts), "ticks"],
            ends,
            body=body,
            num_scan_inputs=1,
        )
        graph = helper.make_graph(
            [scan],
            "floor",
            [value("ticks", shape=[STEPS, 1])],
            [value(name, shape=None) for name in ends[len(self.states) :]],
            [*self.constants, *firsts],
        )
        opset = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opset, ir_version=10)


def _products(subject: Subject, batch: int, body: _Body) -> None:
    """Fill a body with every product of a step."""
    for product in subject.products:
        for _ in range(product.count):
            _product(product, batch, body)


def _product(product: Product, batch: int, body: _Body) -> None:
    if product.stacked:
        stack = batch * product.stacked
        left = body.state([stack, product.rows, product.inner])
        right = body.constant([stack, product.inner, product.outer])
        name, shape = body.add("MatMul", left, right), [stack, product.rows, product.outer]
    else:
        left = body.state([batch * product.rows, product.inner])
        right = body.constant([product.inner, product.outer])
        bias = body.constant([product.outer])
        name = body.add("Gemm", left, right, bias)
        shape = [batch * product.rows, product.outer]
    body.results.append((name, shape))


def _chain(length: int, body: _Body) -> None:
    """Fill a body with trivial nodes, each waiting for the one before."""
    name = body.state([1, 64])
    for _ in range(length):
        name = body.add("Abs", name)
    body.results.append((name, [1, 64]))
