"""A linear system whose matrix is known at export becomes a product with its inverse."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

aten = torch.ops.aten


@dataclass(frozen=True, slots=True)
class Solver:
    """Where an operator takes its system.

    Arguments:
        right: Position of the right-hand side among the arguments.
        packed: Whether it returns the solution as the first of several results.
    """

    right: int
    packed: bool = False


SOLVERS = {
    aten._linalg_solve_ex.default: Solver(1, packed=True),  # noqa: SLF001  (the operator's name)
    aten.cholesky_solve.default: Solver(0),
    aten.linalg_lu_solve.default: Solver(2),
    aten.linalg_solve.default: Solver(1),
    aten.linalg_solve_triangular.default: Solver(1),
    aten.triangular_solve.default: Solver(0, packed=True),
}


@dataclass(frozen=True, slots=True)
class System:
    """A system with a known matrix.

    Arguments:
        node: The node that gives the solution.
        inverse: What the operator makes of the identity, in float64.
        right: The right-hand side.
        left: Whether the matrix stands on the left of the unknown.
    """

    node: fx.Node
    inverse: Tensor
    right: fx.Node
    left: bool


def known_systems(graph: fx.Graph, known: Mapping[fx.Node, Any]) -> list[System]:
    """Return every solve of a graph whose right-hand side alone is unknown.

    Arguments:
        graph: The captured graph.
        known: Values of the nodes that depend on parameters only, in float64.
    """
    found = []
    for node in graph.nodes:
        solver = SOLVERS.get(node.target)
        if solver is None or node in known:
            continue
        right = node.args[solver.right]
        others = [item for item in node.all_input_nodes if item is not right]
        solution = _first(node) if solver.packed else node
        if right in known or solution is None or not all(item in known for item in others):
            continue
        inverse = _of_identity(node, solver, known)
        if right.meta["val"].dim() >= inverse.dim():
            left = node.kwargs.get("left", True)
            found.append(System(solution, inverse, right, left))
    return found


def _first(node: fx.Node) -> fx.Node | None:
    """Return the first result of a node, where no other one is read."""
    items = [user for user in node.users if user.target is operator.getitem and user.users]
    return items[0] if [item.args[1] for item in items] == [0] else None


def _of_identity(node: fx.Node, solver: Solver, known: Mapping[fx.Node, Any]) -> Tensor:
    matrix = next(known[item] for item in node.all_input_nodes if item in known)
    identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype).expand_as(matrix)
    arguments = list(node.args)
    arguments[solver.right] = identity
    args, kwargs = pytree.tree_map_only(
        fx.Node, known.__getitem__, (tuple(arguments), dict(node.kwargs))
    )
    result = node.target(*args, **kwargs)  # type: ignore[operator]
    inverse: Tensor = result[0] if solver.packed else result
    return inverse.contiguous()
