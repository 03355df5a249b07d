"""Operators without a translation of their own, and what they are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import fx
from torch._guards import detect_fake_mode
from torch._subclasses.fake_tensor import FakeTensor
from torch.export import ExportedProgram
from torch.func import functionalize
from torch.fx.experimental import _config as tracing
from torch.fx.experimental.proxy_tensor import make_fx
from torch.onnx._internal.exporter import _decomp
from torch.onnx._internal.exporter._registration import ONNXRegistry
from torch.utils import _pytree as pytree

from toolkit.capture.fold import name_outputs
from toolkit.lowerings import table

ASSERTIONS = ("aten::_assert", "aten::sym_constrain")
"""The exporter drops them."""
COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd  # noqa: SLF001  (no public name)
PLACE = ("stack_trace", "nn_module_stack", "from_node")
"""What tells where a node comes from."""


@cache
def translated() -> frozenset[Any]:
    """Return the operators that the exporter, or a lowering, translates."""
    own = _decomp.get_onnx_implemented_overloads(ONNXRegistry.from_torchlib())
    return frozenset([*own, *table()])


@cache
def decompositions() -> Mapping[Any, Callable[..., Any]]:
    """Return what the exporter would decompose before it translates, and how."""
    made: Mapping[Any, Callable[..., Any]] = _decomp.create_onnx_friendly_decomposition_table(
        set(translated())
    )
    return made


def is_final(program: ExportedProgram) -> bool:
    """Return whether every operator of a functional program has a translation.

    A loop's body may also hold a constant without its numbers, which tracing again puts in.
    """
    return not any(_open_nodes(part.graph) or _lacks_numbers(part) for part in _graphs(program))


def _lacks_numbers(part: fx.GraphModule) -> bool:
    named = [node.target for node in part.graph.nodes if node.op == "get_attr"]
    return any(isinstance(getattr(part, str(name), None), FakeTensor) for name in named)


def decompose(program: ExportedProgram) -> None:
    """Take apart, in place, the operators of a functional program that have no translation.

    The exporter would trace the whole program again, every loop's body several times. What cannot
    be taken apart alone stays as it is, and so does a program that is traced again anyway.
    """
    if any(_lacks_numbers(part) for part in _graphs(program)):
        return
    # The exporter's own setting, under which sizes of 0 and 1 are like any other.
    with torch.no_grad(), tracing.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]
        for part in _graphs(program):
            for node in _open_nodes(part.graph):
                _take_apart(node)
            part.graph.eliminate_dead_code()
            part.recompile()
    name_outputs(program)


def _graphs(program: ExportedProgram) -> list[fx.GraphModule]:
    return [part for part in program.graph_module.modules() if isinstance(part, fx.GraphModule)]


def _open_nodes(graph: fx.Graph) -> list[fx.Node]:
    """Return the nodes whose operators are taken apart before they are translated."""
    calls = [n for n in graph.nodes if isinstance(n.target, torch._ops.OpOverload)]  # noqa: SLF001
    return [node for node in calls if _is_open(node.target)]


def _is_open(operator: Any) -> bool:
    schema = operator._schema  # noqa: SLF001  (no public name)
    if operator not in translated():
        return not schema.name.startswith(ASSERTIONS)
    # The exporter always takes these apart: its translation of one chunk gives no list.
    made = operator.has_kernel_for_dispatch_key(COMPOSITE)
    return made and any(isinstance(item.type, torch.ListType) for item in schema.returns)


def _take_apart(node: fx.Node) -> None:
    """Put a node's parts in its place, where they are operators of the same inputs alone."""
    operator: Any = node.target
    given = node.all_input_nodes
    values = [item.meta.get("val") for item in given]
    if any(value is None for value in values):
        return

    def call(*tensors: Any) -> Any:
        known = dict(zip(given, tensors, strict=True))
        args, kwargs = pytree.tree_map_only(fx.Node, known.get, (node.args, node.kwargs))
        return decompositions().get(operator, operator)(*args, **kwargs)

    mode = detect_fake_mode(values)
    if mode is None:
        return
    with mode:
        parts = make_fx(functionalize(call), decomposition_table=dict(decompositions()))(*values)
    if any(part.op not in ("placeholder", "call_function", "output") for part in parts.graph.nodes):
        return
    results = _copied(parts.graph, node, given)
    if isinstance(results, fx.Node):
        node.replace_all_uses_with(results)
        node.graph.erase_node(node)
        return
    for reader in tuple(node.users):
        reader.replace_all_uses_with(results[reader.args[1]])
        node.graph.erase_node(reader)
    node.graph.erase_node(node)


def _copied(parts: fx.Graph, node: fx.Node, given: Sequence[fx.Node]) -> Any:
    """Copy parts before a node; return what stands for its result."""
    waiting, copies = iter(given), {}
    place = {key: node.meta[key] for key in PLACE if key in node.meta}
    with node.graph.inserting_before(node):
        for part in parts.nodes:
            if part.op == "placeholder":
                copies[part] = next(waiting)
            elif part.op == "call_function":
                copies[part] = node.graph.node_copy(part, copies.__getitem__)
                copies[part].meta.update(place)
    (result,) = parts.output_node().args
    return pytree.tree_map_only(fx.Node, copies.__getitem__, result)
