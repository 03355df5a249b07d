"""A captured graph with its constants evaluated, composite operators kept whole."""

from __future__ import annotations

import contextlib
import copy
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from toolkit.capture.oracle import DOUBLE
from toolkit.core.errors import ExportError, ToolkitError
from toolkit.core.quiet import quietly

Function = Callable[..., Any]

aten = torch.ops.aten
# They read the shape of a tensor alone.
BLANKS = (
    aten.zeros_like.default,
    aten.ones_like.default,
    aten.full_like.default,
    aten.new_zeros.default,
    aten.new_ones.default,
    aten.new_full.default,
)


@dataclass(frozen=True, slots=True)
class Program:
    """A functional graph at fixed sizes, in float64.

    Arguments:
        nodes: What depends on the inputs, in order.
        const: Values of everything else.
        inputs: The first runs along time, the others are known.
        outputs: What it returns.
    """

    nodes: tuple[fx.Node, ...]
    const: Mapping[fx.Node, Any]
    inputs: tuple[fx.Node, ...]
    outputs: tuple[fx.Node, ...]


def capture(module: nn.Module, args: Sequence[Tensor]) -> Program:
    """Capture a module in functional ATen and fold its parameters.

    Composite operators (`conv1d`, `layer_norm`, `lstm`) stay whole: that is what rules are for.
    A module that changes its parameters while it runs (`weight.data *= mask`) is traced with its
    tensors as constants.

    Arguments:
        module: The module in evaluation mode; it is left as it is.
        args: Its inputs, in the module's own precision.

    Raises:
        ExportError: The module fails in eager, or neither way captures it.
    """
    module = copy.deepcopy(module)
    # What torch's tracers say of their own prototypes is nothing that a user can act on.
    with torch.no_grad(), quietly(messages=(".*",), loggers=()):
        _run_once(module, args)
        try:
            exported = torch.export.export(module, tuple(args), strict=False)
            exported = exported.run_decompositions({})
        except Exception as error:  # noqa: BLE001  (any failure is a reason to trace instead)
            return _traced_after(error, module, args)
    state: dict[str, Any] = {**exported.state_dict, **exported.constants}
    bound = {
        spec.arg.name: state[spec.target]
        for spec in exported.graph_signature.input_specs
        if spec.target is not None
    }
    return _fold(exported.graph, bound)


def _run_once(module: nn.Module, args: Sequence[Tensor]) -> None:
    """Let masking in place and lazy initialisation happen before the capture."""
    try:
        module(*args)
    except ToolkitError:
        raise
    except Exception as error:
        raise ExportError(
            f"the network fails in eager: {type(error).__name__}: {error}",
            where="inputs of " + ", ".join(str(list(tensor.shape)) for tensor in args),
            next_step="correct the call or the example",
        ) from error


def _traced_after(error: Exception, module: nn.Module, args: Sequence[Tensor]) -> Program:
    try:
        return trace(module, args)
    except Exception as second:
        raise ExportError(
            f"the network cannot be captured whole: {type(error).__name__}: "
            f"{str(error).strip().splitlines()[0]}",
            where=f"{type(module).__name__}; traced with constants: {second}",
            next_step="write branches with torch.where, or see toolkit doctor --model TARGET",
        ) from second


def trace(function: Function, args: Sequence[Tensor]) -> Program:
    """Return a function on tensors as a program, the tensors that it closes over as constants."""
    with torch.no_grad():
        made = make_fx(lambda *given: function(*given), tracing_mode="real", pre_dispatch=True)
        traced = made(*args)
    bound = {
        node.name: operator.attrgetter(node.target)(traced)
        for node in traced.graph.nodes
        if node.op == "get_attr"
    }
    return _fold(traced.graph, bound)


@contextlib.contextmanager
def double_by_default() -> Iterator[None]:
    """Make float64 the element type of numbers that do not say theirs."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(default)


def _fold(graph: fx.Graph, bound: Mapping[str, Any]) -> Program:
    """Evaluate in float64 what does not depend on the inputs; forget what no output needs."""
    outputs = _nodes_in(next(node for node in reversed(graph.nodes) if node.op == "output").args)
    needed = ancestors(outputs)
    const: dict[fx.Node, Any] = {}
    nodes, inputs = [], []
    with double_by_default(), torch.no_grad():
        for node in graph.nodes:
            node.args, node.kwargs = pytree.tree_map(_up, (node.args, node.kwargs))
            if node.op in ("placeholder", "get_attr") and node.name in bound:
                const[node] = _up(bound[node.name])
            elif node.op == "placeholder":
                inputs.append(node)
            elif node.op == "output" or node not in needed:
                continue
            elif node.target in BLANKS:
                given = node.all_input_nodes
                const[node] = call(node, {n: const[n] if n in const else blank(n) for n in given})
            elif all(item in const for item in node.all_input_nodes):
                const[node] = call(node, const)
            else:
                nodes.append(node)
    return Program(tuple(nodes), const, tuple(inputs), tuple(outputs))


def call(node: fx.Node, values: Mapping[fx.Node, Any]) -> Any:
    """Run one node on its arguments' values."""
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
    target: Any = node.target
    return target(*args, **kwargs)


def evaluate(program: Program, given: Mapping[fx.Node, Any]) -> Callable[[fx.Node], Any]:
    """Return a function that gives the whole value of any node, computed when first asked for."""
    memo: dict[fx.Node, Any] = {**program.const, **given}

    def value(node: fx.Node) -> Any:
        pending = [node]
        while pending:
            top = pending[-1]
            known = top in memo
            missing = [] if known else [item for item in top.all_input_nodes if item not in memo]
            if not missing:
                pending.pop()
            if not known and not missing:
                memo[top] = call(top, memo)
            pending += missing
        return memo[node]

    return value


def shape_of(node: fx.Node) -> tuple[int, ...]:
    """Return the shape of a node's tensor."""
    return tuple(_meta(node).shape)


def dtype_of(node: fx.Node) -> torch.dtype:
    """Return the element type of a node's tensor, float64 for any floating one."""
    dtype: torch.dtype = _meta(node).dtype
    return DOUBLE.get(dtype, dtype)


def blank(node: fx.Node) -> Tensor:
    """Return zeros like a node's tensor."""
    return torch.zeros(shape_of(node), dtype=dtype_of(node))


def _meta(node: fx.Node) -> Any:
    value = node.meta.get("val", node.meta.get("tensor_meta"))
    return value[0] if isinstance(value, tuple | list) and not hasattr(value, "shape") else value


def _up(value: Any) -> Any:
    if isinstance(value, Tensor):
        value = value.detach()
        return value.to(DOUBLE.get(value.dtype, value.dtype))
    return DOUBLE.get(value, value) if isinstance(value, torch.dtype) else value


def _nodes_in(tree: Any) -> list[fx.Node]:
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, fx.Node)]


def ancestors(nodes: Sequence[fx.Node]) -> set[fx.Node]:
    """Return nodes and all that they need."""
    found: set[fx.Node] = set()
    pending = list(nodes)
    while pending:
        node = pending.pop()
        if node not in found:
            found.add(node)
            pending += node.all_input_nodes
    return found
