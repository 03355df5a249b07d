"""Push Transposes through elementwise operators until they meet their inverses.

A linear layer for each feature turns its rows to a batch of features and back; what lies between
two such layers is elementwise and has no need of either order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from toolkit.passes._graph import (
    LocalRewrite,
    constant,
    drop,
    integer,
    ints,
    is_op,
    new_constant,
    new_node,
    only_user,
    producer,
    replace,
)

UNARY = (
    "Abs",
    "Cast",
    "Celu",
    "Cos",
    "Elu",
    "Erf",
    "Exp",
    "Gelu",
    "LeakyRelu",
    "Log",
    "Neg",
    "Not",
    "Reciprocal",
    "Relu",
    "Selu",
    "Sigmoid",
    "Sign",
    "Sin",
    "Softplus",
    "Sqrt",
    "Tanh",
)
BROADCAST = (
    "Add",
    "And",
    "Div",
    "Equal",
    "Greater",
    "GreaterOrEqual",
    "Less",
    "LessOrEqual",
    "Max",
    "Min",
    "Mul",
    "Or",
    "Pow",
    "Sub",
    "Where",
)
VIEWS = ("Reshape", "Squeeze", "Unsqueeze")
Order = list[int]
Sizes = list[int | str | None]
Readers = list[tuple[ir.Node, int]]


def sink(graph: ir.Graph, node: ir.Node) -> bool:
    """Simplify one Transpose, or turn the operators behind it so that fewer are left."""
    if not is_op(node, "Transpose") or not node.attributes:
        return False
    return _without_ones(node) or _after_ones(node) or _before_ones(node) or _around(graph, node)


def _without_ones(node: ir.Node) -> bool:
    """Replace views around a Transpose that only add and remove axes of size one."""
    below = only_user(node.outputs[0])
    if below is None or not is_op(below, *VIEWS) or below.graph is not node.graph:
        return False
    above = producer(node.inputs[0], *VIEWS)
    data, wanted = (above or node).inputs[0], below.outputs[0]
    source, given, target = _sizes(node.inputs[0]), _sizes(data), _sizes(wanted)
    if data is None or source is None or given is None or target is None:
        return False
    turned = [source[axis] for axis in _order(node) if source[axis] != 1]
    same = _same(_solid(given), _solid(source)) and _same(turned, _solid(target))
    if not same or len(given) != len(target):
        return False
    perm = _matched(given, target, _solid_order(node, source))
    if perm != sorted(perm):
        data = new_node(node, "Transpose", [data], {"perm": perm}, shape_of=wanted).outputs[0]
    elif wanted.is_graph_output():
        return False
    replace(wanted, data)
    drop(below)
    return True


def _after_ones(node: ir.Node) -> bool:
    """Let axes of size one that a view adds before a Transpose be added behind it."""
    view = producer(node.inputs[0], *VIEWS)
    data = view.inputs[0] if view is not None else None
    source, given = _sizes(node.inputs[0]), _sizes(data)
    if data is None or source is None or given is None or len(given) >= len(source):
        return False
    if not _same(_solid(given), _solid(source)):
        return False
    turned = [source[axis] for axis in _order(node)]
    axes = _last_ones(turned, len(source) - len(given))
    target = [size for axis, size in enumerate(turned) if axis not in axes]
    perm = _matched(given, target, _solid_order(node, source))
    if perm != sorted(perm):
        data = new_node(node, "Transpose", [data], {"perm": perm}).outputs[0]
        data.type, data.shape = node.outputs[0].type, ir.Shape(target)
    added = new_constant(node, np.array(axes, np.int64), "axes")
    wide = new_node(node, "Unsqueeze", [data, added], shape_of=node.outputs[0])
    replace(node.outputs[0], wide.outputs[0])
    drop(node)
    return True


def _before_ones(node: ir.Node) -> bool:
    """Let axes of size one that a view removes behind a Transpose be removed before it."""
    view = only_user(node.outputs[0])
    if view is None or not is_op(view, *VIEWS) or view.graph is not node.graph:
        return False
    data, wanted = node.inputs[0], view.outputs[0]
    source, target = _sizes(data), _sizes(wanted)
    if data is None or source is None or target is None or len(target) >= len(source):
        return False
    if not _same([source[axis] for axis in _order(node) if source[axis] != 1], _solid(target)):
        return False
    axes = _last_ones(source, len(source) - len(target))
    given = [size for axis, size in enumerate(source) if axis not in axes]
    removed = new_constant(node, np.array(axes, np.int64), "axes")
    narrow = new_node(node, "Squeeze", [data, removed]).outputs[0]
    narrow.type, narrow.shape = data.type, ir.Shape(given)
    perm = _matched(given, target, _solid_order(node, source))
    if perm != sorted(perm):
        narrow = new_node(node, "Transpose", [narrow], {"perm": perm}, shape_of=wanted).outputs[0]
    replace(wanted, narrow)
    drop(view)
    return True


def _last_ones(shape: Sizes, count: int) -> Order:
    return [axis for axis, size in enumerate(shape) if size == 1][-count:]


def _solid_order(node: ir.Node, source: Sizes) -> Order:
    """Return the order of the axes that are larger than one, counted among themselves."""
    order = [axis for axis in _order(node) if source[axis] != 1]
    return [sorted(order).index(axis) for axis in order]


def _order(node: ir.Node) -> Order:
    return ints(node, "perm", ())


def _sizes(value: ir.Value | None) -> Sizes | None:
    """Return a value's shape, with `None` for sizes that have no name."""
    if value is None or value.shape is None:
        return None
    return [size if isinstance(size, int) else size.value for size in value.shape]


def _solid(shape: Sizes) -> Sizes:
    return [size for size in shape if size != 1]


def _same(one: Sizes, other: Sizes) -> bool:
    """Return whether a view keeps every axis: its count of elements settles one unknown size."""
    if len(one) != len(other) or 0 in one:
        return False
    pairs = zip(one, other, strict=True)
    unsettled = [pair for pair in pairs if pair[0] != pair[1] or None in pair]
    known = [size for pair in unsettled for size in pair if isinstance(size, int)]
    return len(unsettled) < 2 and not known


def _matched(given: Sizes, target: Sizes, solid: Order) -> Order:
    """Return the order of axes from one shape to the other; those of size one keep theirs."""
    ones = iter([axis for axis, size in enumerate(given) if size == 1])
    places = [axis for axis, size in enumerate(given) if size != 1]
    others = iter([places[position] for position in solid])
    return [next(ones) if size == 1 else next(others) for size in target]


@dataclass(frozen=True, slots=True)
class Region:
    """Connected elementwise operators that are to work in another order of axes.

    Arguments:
        order: How today's values come from the new ones, as the `perm` of a Transpose.
        nodes: The operators, in the order of their graph.
    """

    order: Order
    nodes: Sequence[ir.Node]

    def inputs(self) -> list[ir.Value]:
        """Return the values from elsewhere that are read, each once."""
        made = {value for node in self.nodes for value in node.outputs}
        read = (value for node in self.nodes for value in _operands(node) if value not in made)
        return list(dict.fromkeys(read))

    def outputs(self) -> list[tuple[ir.Value, Readers]]:
        """Return the values that are read elsewhere, and where."""
        inside = set(self.nodes)
        values = [value for node in self.nodes for value in node.outputs]
        uses = [
            [(use.node, use.idx) for use in value.uses() if use.node not in inside]
            for value in values
        ]
        return [(value, others) for value, others in zip(values, uses, strict=True) if others]

    def entering(self, value: ir.Value) -> Order:
        """Return the order in which an input, or what its Transpose reads, comes in."""
        inverse = [self.order.index(axis) for axis in range(len(self.order))]
        maker = producer(value, "Transpose")
        return inverse if maker is None else [_order(maker)[axis] for axis in inverse]

    def leaving(self, reader: ir.Node) -> Order:
        """Return the order in which a reader's result comes from a new value."""
        if not is_op(reader, "Transpose"):
            return self.order
        return [self.order[axis] for axis in _order(reader)]


def _around(graph: ir.Graph, first: ir.Node) -> bool:
    region = Region(_order(first), _connected(graph, first))
    if not region.nodes or _turns_within(region) or _saved(region) <= 0:
        return False
    _turn(region)
    return True


def _connected(graph: ir.Graph, first: ir.Node) -> list[ir.Node]:
    """Return the elementwise operators that are connected with a Transpose."""
    rank, found = len(_order(first)), set[ir.Node]()
    waiting = [use.node for use in first.outputs[0].uses()]
    while waiting:
        node = waiting.pop()
        if node in found or node.graph is not graph or not _fits(node, rank):
            continue
        found.add(node)
        waiting += [maker for value in _operands(node) if (maker := value.producer()) is not None]
        waiting += [use.node for value in node.outputs for use in value.uses()]
    return [node for node in graph if node in found] if found else []


def _fits(node: ir.Node, rank: int) -> bool:
    """Return whether an operator takes each element by itself, or goes along one axis."""
    if not is_op(node, *UNARY, *BROADCAST, "Concat", "Split"):
        return False
    operands = _operands(node)
    ranks = {_rank(value) for value in operands if constant(value) is None}
    known = [_rank(value) or 0 for value in operands]
    level = is_op(node, *BROADCAST) or set(known) == {rank}
    outputs = any(value.is_graph_output() for value in node.outputs)
    return ranks == {rank} and max(known) == rank and level and not outputs


def _operands(node: ir.Node) -> list[ir.Value]:
    """Return the inputs that have axes in an order."""
    values = node.inputs if is_op(node, *BROADCAST, "Concat") else node.inputs[:1]
    return [value for value in values if value is not None and _rank(value) != 0]


def _rank(value: ir.Value) -> int | None:
    return None if value.shape is None else len(value.shape)


def _turns_within(region: Region) -> bool:
    """Return whether a Transpose leads from the region back into it."""
    inside = set(region.nodes)
    makers = [producer(value, "Transpose") for value in region.inputs()]
    return any(
        source is not None and source.producer() in inside
        for maker in makers
        if maker is not None
        for source in maker.inputs
    )


def _is_plain(order: Order) -> bool:
    return order == sorted(order)


def _saved(region: Region) -> int:
    """Return how many Transposes fewer there are afterwards."""
    inside, saved = set(region.nodes), 0
    for value in region.inputs():
        if constant(value) is not None:
            continue
        maker = producer(value, "Transpose")
        alone = {use.node for use in value.uses()} <= inside and not value.is_graph_output()
        here = maker is not None and maker.graph is region.nodes[0].graph
        saved += int(here and alone) - int(not _is_plain(region.entering(value)))
    for _, uses in region.outputs():
        saved += sum(_vanishes(region, reader) for reader, _ in uses)
        saved -= int(any(not is_op(reader, "Transpose") for reader, _ in uses))
    return saved


def _vanishes(region: Region, reader: ir.Node) -> bool:
    """Return whether a reader is a Transpose that is no longer needed."""
    if not is_op(reader, "Transpose") or not _is_plain(region.leaving(reader)):
        return False
    if not reader.outputs[0].is_graph_output():
        return True
    # A value can take the name of one output only, and only of its own graph's.
    value, graph = reader.inputs[0], region.nodes[0].graph
    return reader.graph is graph and value is not None and only_user(value) is reader


def _turn(region: Region) -> None:
    """Let the operators of a region work in the other order of axes."""
    outputs, makers = region.outputs(), [value.producer() for value in region.inputs()]
    turned = {value: _turned(region, value) for value in region.inputs()}
    for node in region.nodes:
        for place, value in enumerate(node.inputs):
            if value in turned:
                node.replace_input_with(place, turned[value])
        if is_op(node, "Concat", "Split"):
            axis = region.order[integer(node, "axis", 0)]
            node.attributes["axis"] = ir.AttrInt64("axis", axis)
        for value in node.outputs:
            if value.shape is not None:
                sizes = zip(region.order, value.shape, strict=True)
                value.shape = ir.Shape([size for _, size in sorted(sizes, key=lambda s: s[0])])
    for value, uses in outputs:
        _read(region, value, uses)
    for maker in makers:
        if maker is not None and is_op(maker, "Transpose"):
            drop(maker)


def _turned(region: Region, value: ir.Value) -> ir.Value:
    """Return an input in the new order of axes."""
    reader = next(node for node in region.nodes if value in node.inputs)
    array, order = constant(value), region.entering(value)
    if array is not None:
        wide = array.reshape((1,) * (len(order) - array.ndim) + array.shape)
        return new_constant(reader, wide.transpose(order), f"{value.name}_turned")
    maker = producer(value, "Transpose")
    source = value if maker is None else maker.inputs[0]
    if source is None or _is_plain(order):
        return source or value
    return _transpose(maker or reader, source, order, before=reader)


def _read(region: Region, value: ir.Value, uses: Readers) -> None:
    """Give the readers elsewhere what they have read so far."""
    maker = value.producer()
    back: ir.Value | None = None
    for reader, place in uses:
        order = region.leaving(reader)
        if _vanishes(region, reader):
            replace(reader.outputs[0], value)
            drop(reader)
        elif is_op(reader, "Transpose"):
            reader.attributes["perm"] = ir.AttrInt64s("perm", order)
        elif maker is not None and maker.graph is not None:
            if back is None:
                back = _transpose(maker, value, order, before=maker)
                maker.graph.insert_after(maker, back.producer() or ())
            reader.replace_input_with(place, back)


def _transpose(like: ir.Node, source: ir.Value, order: Order, before: ir.Node) -> ir.Value:
    attributes = {"perm": order}
    node = new_node(like, "Transpose", [source], attributes, shape_of=source, before=before)
    (result,) = node.outputs
    if source.shape is not None:
        result.shape = ir.Shape([source.shape[axis] for axis in order])
    return result


rewrite = LocalRewrite(
    order=62,
    portable=True,
    rule=sink,
    absent="no Transpose meets another behind elementwise operators",
)
