"""Solve a triangular map block by block, where a loop sweeps over all features at once.

The inverse of an autoregressive flow is a fixed point that sweeps `x ← f(x)` reach, each over all
weights of a masked network. In an order in which every feature depends on earlier ones alone, the
features are cut into blocks: what earlier blocks give to one is summed up once, and its sweeps
touch only the weights inside the block. These are Gauss-Seidel blocks with Jacobi sweeps inside.

References:
    Accelerating Feedforward Computation via Parallel Nonlinear Equation Solving, arXiv 2002.03629.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from toolkit.passes._blocks import Solver, Sweep, Unfit
from toolkit.passes._graph import (
    Array,
    LocalRewrite,
    constant,
    drop,
    is_op,
    producer,
    replace,
    scalar,
)
from toolkit.passes._units import read_network, weights

MOST_BLOCKS = 16
FEATURES, WEIGHTS = 8, 100_000
"""What a block has at least: below, its nodes cost more than the weights that it spares."""


def cut(graph: ir.Graph, node: ir.Node) -> bool:
    """Replace one loop by one smaller loop per block of features."""
    sweep = _read(node)
    if sweep is None:
        return False
    nodes, constants = set(graph), set(graph.initializers)
    try:
        solved = Solver(sweep).solve()
    except Unfit:
        graph.remove([item for item in graph if item not in nodes], safe=True)
        for name in set(graph.initializers) - constants:
            del graph.initializers[name]
        return False
    for old, new in zip(node.outputs, solved, strict=True):
        replace(old, new)
    drop(node)
    return True


def _read(loop: ir.Node) -> Sweep | None:
    """Return what a loop sweeps; `None` where it does not, or is too small to be cut."""
    if not is_op(loop, "Loop") or len(loop.inputs) < 3:
        return None
    trips, started = (constant(value) for value in loop.inputs[:2])
    body = loop.attributes["body"].as_graph()
    going, *after = body.outputs
    _, given, *before = body.inputs
    if trips is None or started is None or not started.all() or len(after) != len(loop.outputs):
        return None
    network = read_network(before[0], body)
    dependence = network.dependence.get(after[0])
    if dependence is None or len(dependence) != network.width(before[0]):
        return None
    stops = given not in (going, *(same.inputs if (same := producer(going, "Identity")) else ()))
    if stops and after[0] not in _watched(going, dict(zip(after, before, strict=True))):
        return None
    rounds = _rounds(dependence)
    if not 0 < len(rounds) <= int(trips):
        return None
    read = sum(array.size for node in network.nodes if (array := weights(node)) is not None)
    most = (MOST_BLOCKS, 2 * len(rounds) // FEATURES, len(dependence) // FEATURES, read // WEIGHTS)
    if min(most) < 2:
        return None
    blocks = [np.sort(part) for part in np.array_split(np.concatenate(rounds), min(most))]
    return Sweep(loop, body, network, after, blocks, stops)


def _watched(going: ir.Value, carried: dict[ir.Value, ir.Value]) -> set[ir.Value]:
    """Return the carried values that keep a loop going exactly as long as one of them changes.

    None where the condition is another one.
    """
    if (either := producer(going, "Or")) is not None:
        legs = [_watched(value, carried) for value in either.inputs if value is not None]
        return set.union(*legs) if all(legs) else set()
    less = producer(going, "Less")
    least = producer(less.inputs[0], "ReduceMin") if less is not None else None
    number = producer(least.inputs[0], "Cast") if least is not None else None
    equal = producer(number.inputs[0], "Equal") if number is not None else None
    if less is None or equal is None or scalar(less.inputs[1]) != 1:
        return set()
    return {new for new, old in carried.items() if {new, old} == set(equal.inputs)}


def _rounds(dependence: Array) -> list[Array]:
    """Return the features that each pass settles; none where some depend on themselves."""
    rounds: list[Array] = []
    settled = np.zeros(len(dependence), bool)
    while not settled.all():
        ready = ~settled & ~dependence[:, ~settled].any(1)
        if not ready.any():
            return []
        rounds.append(np.flatnonzero(ready))
        settled |= ready
    return rounds


rewrite = LocalRewrite(
    order=49,
    portable=True,
    rule=cut,
    absent="no loop sweeps over a triangular map that is large enough to be cut",
)
