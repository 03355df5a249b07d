"""Pieces of an ONNX graph that run alone: prefixes up to a tensor, and segments between tensors."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx.inliner
import onnx_ir as ir

from toolkit.core import registry
from toolkit.core.protocols import Artifact
from toolkit.stages._operators import stated_signature

if TYPE_CHECKING:
    Arrays = dict[str, np.ndarray]

# What one rounding changes, as a fraction: the coarsest element type of a graph decides.
STEPS = {
    ir.DataType.FLOAT16: 2.0**-10,
    ir.DataType.BFLOAT16: 2.0**-7,
    ir.DataType.INT8: 2.0**-7,
    ir.DataType.UINT8: 2.0**-7,
}
FINEST = 2.0**-23


@dataclass(slots=True)
class Sliced:
    """A graph whose tensors can be computed one at a time.

    No tensor is marked as an output beside the one that is asked for: that would stop the runtime
    from fusing, and with the fusion the fault may vanish.

    Arguments:
        path: The `.onnx` file.
        backend: Backend that runs the pieces.
        scratch: A folder for the pieces.
    """

    path: Path
    backend: str
    scratch: Path
    model: ir.Model = field(init=False)
    values: dict[str, ir.Value] = field(init=False)

    def __post_init__(self) -> None:
        proto = onnx.inliner.inline_local_functions(onnx.load(self.path))
        # A rewritten graph may state stale shapes; the graph itself decides.
        proto.graph.ClearField("value_info")
        self.model = ir.from_proto(onnx.shape_inference.infer_shapes(proto))
        self.values = {
            str(value.name): value for node in self.model.graph for value in node.outputs
        }

    @property
    def inputs(self) -> list[str]:
        """Names of the graph's inputs."""
        return [str(value.name) for value in self.model.graph.inputs]

    def step(self) -> float:
        """Return the rounding step of the graph's coarsest element type."""
        types = {value.dtype for value in self.values.values()}
        types |= {value.dtype for value in self.model.graph.initializers.values()}
        return max((STEPS[dtype] for dtype in types if dtype in STEPS), default=FINEST)

    def ancestors(self, name: str) -> list[str]:
        """Return every tensor that a tensor is made of, itself last, in the graph's order."""
        graph = ir.convenience.extract(self.model.graph, self.inputs, [name])
        return [str(value.name) for node in graph for value in node.outputs if value.name]

    def frontier(self, name: str, stops: Collection[str]) -> tuple[list[str], list[ir.Node]]:
        """Return the nearest tensors of `stops` upstream of a tensor, and the nodes between."""
        waiting = [_producer(self.values[name])]
        found: dict[str, None] = {}
        nodes: list[ir.Node] = []
        while waiting:
            node = waiting.pop()
            if node in nodes:
                continue
            nodes.append(node)
            for value in _reads(node):
                if value.is_graph_input() or value.name in stops:
                    found[str(value.name)] = None
                elif value.producer() is not None:
                    waiting.append(_producer(value))
        return list(found), nodes

    def run(self, name: str, feeds: Arrays, start: Sequence[str] = ()) -> np.ndarray:
        """Compute one tensor from the graph's inputs, or from the tensors `start`.

        Arguments:
            name: The tensor.
            feeds: An array for every start.
            start: Names of tensors; the graph's inputs where it is empty.
        """
        begin = list(start) or self.inputs
        graph = ir.convenience.extract(self.model.graph, begin, [name])
        for value in graph.inputs:
            if value.dtype is None:
                value.dtype = ir.DataType.from_numpy(feeds[str(value.name)].dtype)
        piece = ir.to_proto(ir.Model(graph, ir_version=self.model.ir_version))
        path = self.scratch / "piece.onnx"
        onnx.save(piece, path)
        artifact = Artifact(path, stated_signature(piece), "piece")
        runner = registry.backends.load(self.backend).open(artifact)
        try:
            answer: np.ndarray = runner({key: feeds[key] for key in begin})[name]
        finally:
            runner.close()
        return answer


def difference(candidate: np.ndarray, reference: np.ndarray) -> float:
    """Return `max|c − r|`; infinite where the shapes differ or only the candidate is not finite."""
    if candidate.shape != reference.shape:
        return math.inf
    if not candidate.size:
        return 0.0
    c, r = candidate.astype(np.float64), reference.astype(np.float64)
    with np.errstate(invalid="ignore"):
        error = np.where((c == r) | (np.isnan(c) & np.isnan(r)), 0.0, np.abs(c - r))
    return float(np.max(np.where(np.isnan(error), np.inf, error)))


def largest(array: np.ndarray) -> float:
    """Return the largest finite magnitude."""
    finite = np.abs(array[np.isfinite(array)]) if array.dtype.kind == "f" else np.abs(array)
    return float(finite.max()) if finite.size else 0.0


def _reads(node: ir.Node) -> list[ir.Value]:
    """Return what a node reads, also from inside its nested graphs."""
    read = [value for value in node.inputs if value is not None]
    for attribute in node.attributes.values():
        graphs = []
        if attribute.type == ir.AttributeType.GRAPH:
            graphs = [attribute.as_graph()]
        elif attribute.type == ir.AttributeType.GRAPHS:
            graphs = list(attribute.as_graphs())
        for graph in graphs:
            inside = set(graph.all_nodes())
            read += [
                value
                for inner in inside
                for value in inner.inputs
                if value is not None
                and value.producer() is not None
                and value.producer() not in inside
            ]
    return read


def _producer(value: ir.Value) -> ir.Node:
    node = value.producer()
    if node is None:
        raise KeyError(value.name)
    return node
