"""Rules for the graphs and functions of a foreign model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

from toolkit.core.errors import IntegrityError

if TYPE_CHECKING:
    import onnx

    Nodes = Iterable[onnx.NodeProto]
    Key = tuple[str, str, str]

MAX_CALLS = 100
MAX_NODES = 1_000_000
STANDARD = ("", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training")
# Operators that name files or native code.
FOREIGN = frozenset({"EPContext", "PyOp", "PythonOp"})


def shown(name: str) -> str:
    """Return a name from a model, escaped and short."""
    return ascii(name)[1:-1][:80]


def refuse(what: str, where: str, next_step: str = "export the model again") -> IntegrityError:
    """Return the refusal of a model."""
    return IntegrityError(what, where=where, next_step=next_step)


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Yield the graphs in a node's attributes."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def all_nodes(nodes: Nodes) -> Iterator[onnx.NodeProto]:
    """Yield nodes and those of nested graphs; protobuf has bounded the nesting."""
    for node in nodes:
        yield node
        for graph in subgraphs(node):
            yield from all_nodes(graph.node)


def all_graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """Yield the main graph and every nested one, those in functions included."""
    yield model.graph
    for holder in (model.graph, *model.functions):
        for node in all_nodes(holder.node):
            yield from subgraphs(node)


def check_names(model: onnx.ModelProto, where: str) -> None:
    """Check that every name is text: protobuf hands out bytes where it is not UTF-8.

    Raises:
        IntegrityError: One is not.
    """
    names: list[object] = []
    for holder in (model.graph, *model.functions):
        for node in all_nodes(holder.node):
            names += [node.name, node.op_type, node.domain, *node.input, *node.output]
    for graph in all_graphs(model):
        for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
            names.append(value.name)
    for function in model.functions:
        names += [function.name, function.domain, *function.input, *function.output]
    if not all(isinstance(name, str) for name in names):
        raise refuse("a name in it is not UTF-8", where)


def check_versions(model: onnx.ModelProto, where: str) -> None:
    """Check the format's and the operator sets' versions.

    Raises:
        IntegrityError: One is missing, doubled or newer than the installed onnx knows.
    """
    import onnx

    newer = "upgrade onnx, or export at an older opset"
    if model.ir_version > onnx.IR_VERSION:
        raise refuse(f"IR version {model.ir_version} is too new", where, newer)
    for holder in (model, *model.functions):
        versions = {item.domain or "ai.onnx": item.version for item in holder.opset_import}
        if len(versions) != len(holder.opset_import):
            raise refuse("an operator set is imported twice", where)
        known = onnx.defs.onnx_opset_version()
        if versions.get("ai.onnx", 1) > known:
            text = f"opset {versions['ai.onnx']} is too new, {known} is known"
            raise refuse(text, where, newer)
        if min(versions.values(), default=holder is not model) < 1:
            raise refuse("an operator set's version is missing", where)


def check_functions(model: onnx.ModelProto, where: str) -> None:
    """Check that functions end: no recursion, no deep chain, no explosion when expanded.

    Raises:
        IntegrityError: They do not.
    """
    bodies = {(item.domain, item.name, item.overload): item for item in model.functions}
    if len(bodies) != len(model.functions):
        raise refuse("a function is defined twice", where)
    calls: dict[Key, list[Key]] = {}
    own: dict[Key, int] = {}
    for key, body in bodies.items():
        nodes = list(all_nodes(body.node))
        own[key] = len(nodes)
        calls[key] = [called for node in nodes if (called := _key(node)) in bodies]
    depth: dict[Key, int] = {}
    size: dict[Key, int] = {}
    for key in _callees_first(calls, where):
        depth[key] = 1 + max((depth[called] for called in calls[key]), default=0)
        size[key] = own[key] + sum(size[called] for called in calls[key])
        if depth[key] > MAX_CALLS:
            raise refuse(f"functions call each other more than {MAX_CALLS} deep", where)
    total = sum(size.get(_key(node), 1) for node in all_nodes(model.graph.node))
    if max(total, *size.values(), 0) > MAX_NODES:
        raise refuse(f"functions expand to more than {MAX_NODES} nodes", where)


def _key(node: onnx.NodeProto) -> Key:
    return node.domain, node.op_type, node.overload


def _callees_first(calls: dict[Key, list[Key]], where: str) -> list[Key]:
    """Return functions after all that they call, without Python's own recursion."""
    waiting = {key: len(set(called)) for key, called in calls.items()}
    callers: dict[Key, set[Key]] = {key: set() for key in calls}
    for key, called in calls.items():
        for callee in called:
            callers[callee].add(key)
    ready = [key for key, count in waiting.items() if not count]
    order = []
    while ready:
        key = ready.pop()
        order.append(key)
        for caller in callers[key]:
            waiting[caller] -= 1
            if not waiting[caller]:
                ready.append(caller)
    if len(order) != len(calls):
        raise refuse("a function calls itself", where)
    return order


def check_graphs(model: onnx.ModelProto, domains: set[str], where: str) -> int:
    """Check operators, order and names of every graph, and return the number of nodes.

    Raises:
        IntegrityError: An operator is unknown, or a graph is cyclic, unsorted or names a value
            twice or never.
    """
    functions = {(item.domain, item.name, item.overload) for item in model.functions}
    count = 0
    for holder in (model, *model.functions):
        versions = {item.domain or "ai.onnx": item.version for item in holder.opset_import}
        nodes = model.graph.node if holder is model else holder.node
        for node in all_nodes(nodes):
            count += 1
            if _key(node) not in functions:
                _check_operator(node.domain, node.op_type, versions, domains, where)
    if count > MAX_NODES:
        raise refuse(f"the model has more than {MAX_NODES} nodes", where)
    _check_scope(model.graph, frozenset(), where)
    for function in model.functions:
        _check_order(function.node, set(function.input), where)
    return count


def _check_operator(
    domain: str, operator: str, versions: dict[str, int], domains: set[str], where: str
) -> None:
    name = f"{shown(domain) or 'ai.onnx'}::{shown(operator)}"
    if operator in FOREIGN:
        raise refuse(f"the operator {name} loads other files or code", where)
    if domain not in STANDARD:
        if domain in domains:
            return
        raise refuse(
            f"the operator {name} is of an unknown domain",
            where,
            "name the domain as allowed, or export with standard operators",
        )
    version = versions.get(domain or "ai.onnx")
    if version is None:
        raise refuse(f"the operator set of {name} is not imported", where)
    if not _known(operator, version, "" if domain == "ai.onnx" else domain):
        raise refuse(f"there is no operator {name} at opset {version}", where)


@cache
def _known(operator: str, version: int, domain: str) -> bool:
    import onnx

    try:
        onnx.defs.get_schema(operator, version, domain)
    except onnx.defs.SchemaError:
        return False
    return True


def _check_scope(graph: onnx.GraphProto, outer: frozenset[str], where: str) -> None:
    stored = [tensor.name for tensor in graph.initializer]
    stored += [tensor.values.name for tensor in graph.sparse_initializer]
    if len(set(stored)) != len(stored):
        raise refuse("two initializers have one name", where)
    inputs = [value.name for value in graph.input]
    if len(set(inputs)) != len(inputs):
        raise refuse("two graph inputs have one name", where)
    known = {*outer, *stored, *inputs}
    made = _check_order(graph.node, known, where)
    missing = [value.name for value in graph.output if value.name not in made]
    if missing:
        raise refuse(f"nothing makes the output {shown(missing[0])}", where)


def _check_order(nodes: Nodes, known: set[str], where: str) -> set[str]:
    known = {*known, ""}
    listed = list(nodes)
    later = {name for node in listed for name in node.output}
    for node in listed:
        for name in node.input:
            if name not in known:
                raise refuse(*_order_problem(listed, name, later, where))
        for graph in subgraphs(node):
            _check_scope(graph, frozenset(known), where)
        for name in node.output:
            if name and name in known:
                raise refuse(f"the value {shown(name)} is made twice", where)
            known.add(name)
    return known


def _order_problem(
    nodes: list[onnx.NodeProto], name: str, later: set[str], where: str
) -> tuple[str, str, str]:
    again = "export the model again"
    if name not in later:
        return f"nothing makes the value {shown(name)}", where, again
    maker = {output: index for index, node in enumerate(nodes) for output in node.output}
    needs = {
        index: {maker[used] for used in node.input if used in maker}
        for index, node in enumerate(nodes)
    }
    try:
        TopologicalSorter(needs).prepare()
    except CycleError:
        return f"the graph has a cycle through {shown(name)}", where, again
    what = f"nodes are not in order: {shown(name)} is used before it is made"
    return what, where, "sort its nodes, as any ONNX optimizer does, and save it again"
