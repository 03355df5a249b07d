"""What passes share: constants, single users, and edits that keep names and metadata."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from toolkit.core.protocols import Change

Array = np.ndarray
Rule = Callable[[ir.Graph, ir.Node], bool]
STANDARD = frozenset({"", "ai.onnx"})


@dataclass(frozen=True, slots=True)
class LocalRewrite:
    """A rewrite that looks at one node and its neighbours at a time.

    Model-local functions are left alone: a runtime may hold a fused kernel for them.

    Arguments:
        order: Place among the passes.
        portable: Whether it serves every runtime, not only ONNX Runtime on a CPU.
        rule: Rewrites the graph around a node and returns whether it did.
        absent: The reason to give where no place was found.
    """

    order: int
    portable: bool
    rule: Rule
    absent: str

    def __call__(self, model: ir.Model) -> Change:
        """Apply the rule until no node takes it any more."""
        count = 0
        for graph in list(model.graphs()):
            while changed := sum(self.rule(graph, node) for node in _alive(graph)):
                count += changed
        if not count:
            return Change(0, self.absent)
        remove_unused(model)
        return Change(count)


def _alive(graph: ir.Graph) -> Iterator[ir.Node]:
    """Yield the nodes of a graph that are still in it when their turn comes."""
    return (node for node in tuple(graph) if node.graph is graph)


def is_op(node: ir.Node | None, *operators: str) -> bool:
    """Return whether a node is one of these standard operators."""
    return node is not None and node.domain in STANDARD and node.op_type in operators


def has_body(node: ir.Node) -> bool:
    """Return whether a node holds a graph, which may read any value around it."""
    kinds = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
    return any(attribute.type in kinds for attribute in node.attributes.values())


def producer(value: ir.Value | None, *operators: str) -> ir.Node | None:
    """Return the node that makes a value, where it is one of these standard operators."""
    node = value.producer() if value is not None else None
    return node if is_op(node, *operators) else None


def constant(value: ir.Value | None) -> Array | None:
    """Return a value's constant array; `None` where it is computed or given."""
    if value is None or value.is_graph_input():
        return None
    tensor = ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def repeated(node: ir.Node) -> Array | None:
    """Return the constant that an Expand or ConstantOfShape repeats; `None` if it is computed."""
    if is_op(node, "Expand"):
        return constant(node.inputs[0])
    given = node.attributes.get("value")
    return np.zeros(1, np.float32) if given is None else given.as_tensor().numpy()


def scalar(value: ir.Value | None) -> float | None:
    """Return the only element of a floating-point constant."""
    array = constant(value)
    if array is None or array.size != 1 or not np.issubdtype(array.dtype, np.floating):
        return None
    return float(array.reshape(()))


def only_user(value: ir.Value) -> ir.Node | None:
    """Return the one node that reads a value once; `None` for outputs and shared values."""
    if len(value.uses()) != 1 or value.is_graph_output():
        return None
    (use,) = value.uses()
    return use.node


def dims(value: ir.Value | None) -> tuple[int | str, ...] | None:
    """Return a value's shape with names for dynamic sizes; `None` where any size is unknown."""
    if value is None or value.shape is None:
        return None
    sizes = [size if isinstance(size, int) else size.value for size in value.shape]
    return None if None in sizes else tuple(size for size in sizes if size is not None)


def ints(node: ir.Node, name: str, default: Sequence[int]) -> list[int]:
    """Return a list attribute of a node."""
    attribute = node.attributes.get(name)
    return list(default) if attribute is None else list(attribute.as_ints())


def integer(node: ir.Node, name: str, default: int) -> int:
    """Return an integer attribute of a node."""
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_int()


def new_constant(node: ir.Node, array: Array, hint: str) -> ir.Value:
    """Register a constant in the graph that holds `node`, under a name that is free."""
    graph = node.graph
    if not isinstance(graph, ir.Graph):
        raise TypeError(f"{node.op_type} is in no graph that could hold a constant")
    taken = {value.name for value in graph.initializers.values()}
    taken.update(value.name for other in graph for value in other.outputs)
    taken.update(value.name for value in graph.inputs)
    name, suffix = hint, 1
    while name in taken:
        name, suffix = f"{hint}_{suffix}", suffix + 1
    return registered(graph, array, name)


def registered(graph: ir.Graph, array: Array, name: str) -> ir.Value:
    """Register a constant in a graph, under a name that is free there."""
    tensor = ir.tensor(np.asarray(array, order="C"), name=name)
    shape = ir.Shape(array.shape)
    value = ir.Value(name=name, shape=shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    return value


def new_node(
    like: ir.Node,
    operator: str,
    inputs: Sequence[ir.Value | None],
    attributes: Mapping[str, int | float | str | Sequence[int]] | None = None,
    *,
    shape_of: ir.Value | None = None,
    before: ir.Node | None = None,
    num_outputs: int = 1,
) -> ir.Node:
    """Insert a node that carries the metadata of the node it stands for.

    Arguments:
        like: The node whose module path and stack trace it takes over.
        operator: A standard operator.
        inputs: Its inputs.
        attributes: Its attributes.
        shape_of: A value with the same element type and shape as its first output.
        before: Where to insert it; before `like` if absent.
        num_outputs: How many outputs it has.
    """
    place = before or like
    graph = place.graph
    if graph is None:
        raise ValueError(f"{like.op_type} has left its graph")
    node = ir.node(
        operator,
        list(inputs),
        attributes=dict(attributes or {}),
        num_outputs=num_outputs,
        metadata_props=dict(like.metadata_props),
    )
    if shape_of is not None:
        dtype, shape = shape_of.dtype, shape_of.shape
        node.outputs[0].type = None if dtype is None else ir.TensorType(dtype)
        node.outputs[0].shape = None if shape is None else shape.copy()
    graph.insert_before(place, node)
    return node


def replace(old: ir.Value, new: ir.Value) -> None:
    """Let `new` take the place, type, shape and, for graph outputs, the name of `old`."""
    new.type = new.type or old.type
    new.shape = new.shape or old.shape
    if old.is_graph_output():
        old.name, new.name = f"{old.name}_before", old.name
    old.replace_all_uses_with(new, replace_graph_outputs=True)


def stands_for(value: ir.Value, wanted: ir.Value, node: ir.Node) -> bool:
    """Return whether a value may take the place of one that a node makes.

    A graph's output needs a value of its own, made in that graph.
    """
    maker = value.producer()
    own = maker is not None and maker.graph is node.graph and not value.is_graph_output()
    return own or not wanted.is_graph_output()


def drop(node: ir.Node) -> None:
    """Remove a node that nothing reads, then the nodes that only it has read."""
    graph = node.graph
    if graph is None or any(value.uses() or value.is_graph_output() for value in node.outputs):
        return
    makers = [value.producer() for value in node.inputs if value is not None]
    graph.remove(node, safe=True)
    for maker in makers:
        if maker is not None:
            drop(maker)


def remove_unused(model: ir.Model) -> None:
    """Remove nodes and initializers that nothing reads, and give every value a unique name."""
    from onnx_ir.passes import common

    common.RemoveUnusedNodesPass()(model)
    name_apart(model)


def name_apart(model: ir.Model) -> None:
    """Give every value and node of a model a name of its own."""
    from onnx_ir.passes import common

    common.NameFixPass(_NewNames(model))(model)


class _NewNames:
    """Gives a name that no value of the model has, so that it takes none that comes later."""

    def __init__(self, model: ir.Model) -> None:
        graphs: list[ir.Graph | ir.Function] = [*model.graphs()]
        for function in model.functions.values():
            graphs += [function, *function.subgraphs()]
        self._taken = {value.name for graph in graphs for value in _values(graph)}
        self._numbers: Counter[str] = Counter()

    def generate_node_name(self, node: ir.Node) -> str:
        """Return the node's name, which the pass numbers where it is taken."""
        return node.name or "node"

    def generate_value_name(self, value: ir.Value) -> str:
        """Return the value's name with a number that makes it new."""
        name = base = value.name or "v"
        while name in self._taken:
            self._numbers[base] += 1
            name = f"{base}_{self._numbers[base]}"
        self._taken.add(name)
        return name


def _values(graph: ir.Graph | ir.Function) -> Iterator[ir.Value]:
    yield from graph.inputs
    if isinstance(graph, ir.Graph):
        yield from graph.initializers.values()
    for node in graph:
        yield from node.outputs


def structure(model: ir.Model) -> list[tuple[object, ...]]:
    """Return what tells two graphs apart: every node's operator, inputs, outputs and attributes."""
    return [
        (
            node.domain,
            node.op_type,
            tuple(value.name if value is not None else "" for value in node.inputs),
            tuple(value.name for value in node.outputs),
            tuple(sorted(node.attributes)),
        )
        for node in model.graph.all_nodes()
    ]


def operators(model: ir.Model) -> dict[str, int]:
    """Count the nodes of a model by operator, subgraphs and functions included."""
    counts: dict[str, int] = {}
    bodies: list[ir.Graph | ir.Function] = [model.graph, *model.functions.values()]
    for body in bodies:
        for node in body.all_nodes():
            counts[node.op_type] = counts.get(node.op_type, 0) + 1
    return counts


def serialized(model: ir.Model) -> bytes:
    """Return a model's file, byte for byte the same for the same model."""
    data: bytes = ir.to_proto(model).SerializeToString(deterministic=True)
    return data
