"""Join the ReduceSums that one sum adds up, such as the log-determinants of a level."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from toolkit.passes._graph import (
    LocalRewrite,
    dims,
    drop,
    integer,
    new_node,
    only_user,
    producer,
    replace,
)
from toolkit.passes._terms import Terms, flatten, is_root, rebuild
from toolkit.passes.hoist_from_sums import reduced_axes

UNARY = ("Log", "Exp", "Abs", "Neg", "Sqrt", "Tanh", "Sigmoid", "Softplus", "Relu")
SMALLEST_GROUP = 3
Member = tuple[int, ir.Value, ir.Node, ir.Value]


def merge(graph: ir.Graph, root: ir.Node) -> bool:
    """Join the largest group of equal reductions among the terms of one sum."""
    del graph
    if not is_root(root):
        return False
    terms = flatten(root)
    if terms is None or not terms.values:
        return False
    members = max(_groups(terms), key=len, default=[])
    if len(members) < SMALLEST_GROUP or terms.total() is None:
        return False
    _join(root, terms, members)
    return True


def _groups(terms: Terms) -> list[list[Member]]:
    found: dict[tuple[object, ...], list[Member]] = {}
    for sign, value in terms.values:
        node = producer(value, "ReduceSum")
        if node is None or only_user(value) is None or node.inputs[0] is None:
            continue
        inner = producer(node.inputs[0], *UNARY)
        alone = inner is not None and only_user(inner.outputs[0]) is node
        source = inner.inputs[0] if inner is not None and alone else node.inputs[0]
        axes = reduced_axes(node)
        if axes is None or source is None or dims(source) is None:
            continue
        key = (
            sign,
            inner.op_type if inner is not None and alone else "",
            dims(source),
            tuple(axes),
            integer(node, "keepdims", 1),
        )
        found.setdefault(key, []).append((sign, value, node, source))
    return list(found.values())


def _join(root: ir.Node, terms: Terms, members: Sequence[Member]) -> None:
    """Add up the group by one reduction over all its sources, in place of its last member."""
    *others, (_, value, last, source) = members
    axes, data = reduced_axes(last), last.inputs[0]
    if axes is None or data is None:
        return
    sources = [member[3] for member in members]
    joined = new_node(last, "Concat", sources, {"axis": axes[0]}, before=root).outputs[0]
    joined.type, joined.shape = source.type, _joined_shape(sources, axes[0])
    if data is not source and (inner := data.producer()) is not None:
        joined = new_node(inner, inner.op_type, [joined], shape_of=joined, before=root).outputs[0]
    attributes = {name: attribute.value for name, attribute in last.attributes.items()}
    inputs = [joined, *last.inputs[1:]]
    total = new_node(last, "ReduceSum", inputs, attributes, shape_of=value, before=root).outputs[0]
    gone = {member[1] for member in others}
    terms.values = [
        (own, total if other is value else other)
        for own, other in terms.values
        if other not in gone
    ]
    replace(root.outputs[0], rebuild(root, terms))
    drop(root)


def _joined_shape(sources: Sequence[ir.Value], axis: int) -> ir.Shape | None:
    shapes = [shape for value in sources if (shape := dims(value)) is not None]
    sizes = [shape[axis] for shape in shapes]
    known = [size for size in sizes if isinstance(size, int)]
    if len(known) != len(sources):
        return None
    return ir.Shape([*shapes[0][:axis], sum(known), *shapes[0][axis + 1 :]])


rewrite = LocalRewrite(
    order=50,
    portable=True,
    rule=merge,
    absent="no sum adds up three reductions of one shape",
)
