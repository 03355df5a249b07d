"""Write `repeat` nodes as torch's `while_loop`, and that as an ONNX `Loop` with a trip count."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import onnx_ir as ir
import torch
from torch import fx, nn
from torch.onnx._internal.exporter import _core

from toolkit.capture.record import guard
from toolkit.capture.repeat import limit, repeat

aten = torch.ops.aten
while_loop = torch.ops.higher_order.while_loop
_MAY_ALIAS = frozenset(
    {aten.clone.default, aten.contiguous.default, aten.reshape.default, operator.getitem}
)
_LEADING = 2
"""Carried values in front of a loop's own: the iteration's number and whether to go on."""


def emit_loops(graph: fx.Graph, root: nn.Module) -> tuple[int, ...]:
    """Replace, in place, every `repeat` node by a `while_loop`; return their iterations.

    A loop that could stop early tests for it, unless it was run and needed all its iterations: a
    bisection goes on for ever, and the test is a good part of its body.

    Arguments:
        graph: A recorded graph whose sizes are spelled.
        root: Gets the bodies as submodules; the graph's module is made from it afterwards.

    Returns:
        For every loop, those inside loops included: its number of iterations, or the most that it
        may take where its condition decides.
    """
    counts: list[int] = []
    for place, node in enumerate([item for item in graph.nodes if item.target is repeat]):
        counts += _Loop(node).emit(root, f"loop_{place}")
    graph.eliminate_dead_code()
    return tuple(counts)


class _Loop:
    """One `repeat` node on its way to a `while_loop`."""

    def __init__(self, node: fx.Node) -> None:
        self.node, self.graph = node, node.graph
        arguments: Any = node.args
        self.body, count, carried, outer, stacked, extras, before = arguments
        self.inside = self.body.graph
        self.count = limit(self.body) if count is None else count
        self.carried, self.outer = list(carried), list(outer)
        self.stacked, self.extras, self.before = list(stacked), list(extras), before
        self.output = self.inside.output_node()
        self.after, self.last, self.stop = map(list, self.output.args[0])

    def emit(self, root: nn.Module, name: str) -> list[int]:
        """Write the body and the call; return the iterations of this loop and those inside."""
        for item in [item for item in self.inside.nodes if item.target is guard]:
            self.inside.erase_node(item)
        self._drop_unused()
        owner = nn.Module()
        inner = emit_loops(self.inside, owner)
        self._write_body()
        self._write_call(name)
        root.add_module(f"{name}_body", fx.GraphModule(owner, self.inside))
        root.add_module(f"{name}_condition", fx.GraphModule(nn.Module(), self._condition()))
        return [int(self.count), *inner]

    def _drop_unused(self) -> None:
        """Drop what neither a later iteration nor anything after the loop reads."""
        places = [item for item in self.inside.nodes if item.op == "placeholder"]
        items: dict[Any, list[fx.Node]] = {}
        for item in self.node.users:
            if item.users:
                items.setdefault(item.args[1], []).append(item)
        held = len(self.carried)
        shown = [place for place in range(len(self.last)) if held + place in items]
        slots = _needed(
            places[:held],
            self.after,
            {place for place in items if place < held},
            [*(self.last[place] for place in shown), *self.stop],
        )
        for new, old in enumerate([*slots, *(held + place for place in shown)]):
            for item in items.get(old, []):
                item.args = (self.node, new)
        self.carried = [self.carried[slot] for slot in slots]
        self.after = [self.after[slot] for slot in slots]
        self.last = [self.last[place] for place in shown]
        self.extras = [self.extras[place] for place in shown]
        self.output.args = ((self.after, self.last, self.stop),)
        self.inside.eliminate_dead_code()
        read = [bool(place.users) for place in places]
        wide = held + len(self.outer)
        self.outer = _chosen(self.outer, read[held:wide])
        self.stacked = _chosen(self.stacked, read[wide:])
        kept = {places[slot] for slot in slots}
        for place in places:
            if not place.users and place not in kept:
                self.inside.erase_node(place)

    def _write_body(self) -> None:
        """Make the body a function of the number, the going on, and all that the loop reads."""
        graph = self.inside
        places = [item for item in graph.nodes if item.op == "placeholder"]
        held, wide = len(self.carried), len(self.carried) + len(self.outer)
        anchor = next(iter(graph.nodes))
        with graph.inserting_before(anchor):
            number, going = graph.placeholder("number"), graph.placeholder("going")
        behind = places[held - 1] if held else going
        for name in [f"last_{place}" for place in range(len(self.last))] + ["trips"]:
            with graph.inserting_after(behind):
                behind = graph.placeholder(name)
        for place in places[wide:]:
            self._slice(place, number)
        with graph.inserting_before(self.output):
            go = self._going_on(places[:held], going)
            step = graph.call_function(aten.add.Tensor, (number, 1))
            results = [_copy(graph, node) for node in [*self.after, *self.last]]
        self.output.args = ((step, go, *results),)

    def _slice(self, place: fx.Node, number: fx.Node) -> None:
        """Let a placeholder hold all iterations' constants, and pick this one's."""
        graph = self.inside
        users = list(place.users)
        first = next(item for item in graph.nodes if item.op == "call_function")
        with graph.inserting_before(first):
            row = graph.call_function(aten.reshape.default, (number, [1]))
            row = graph.call_function(aten.index_select.default, (place, 0, row))
            row = graph.call_function(aten.squeeze.dim, (row, 0))
        for user in users:
            user.replace_input_with(place, row)

    def _going_on(self, carried: Sequence[fx.Node], going: fx.Node) -> Any:
        """Return whether another iteration is needed."""
        call = self.inside.call_function
        if self.stop:
            (stop,) = self.stop
            return call(
                aten.logical_not.default if self.body.until else aten.logical_and.default,
                (stop,) if self.body.until else (stop, stop),
            )
        settles = self.body.settles and self.body.taken < self.count
        if not (settles and carried):
            return call(aten.logical_or.default, (going, going))
        moved: list[fx.Node] = []
        for old, new in zip(carried, self.after, strict=True):
            same = call(aten.eq.Tensor, (new, old))
            same = call(aten._to_copy.default, (same,), {"dtype": torch.float32})  # noqa: SLF001
            moved.append(call(aten.lt.Scalar, (call(aten.min.default, (same,)), 1)))
        while len(moved) > 1:
            moved.append(call(aten.logical_or.default, (moved.pop(), moved.pop())))
        return moved[0]

    def _condition(self) -> fx.Graph:
        graph = fx.Graph()
        number, going = graph.placeholder("number"), graph.placeholder("going")
        for place in range(len(self.carried) + len(self.last)):
            graph.placeholder(f"carried_{place}")
        trips = graph.placeholder("trips")
        for place in range(len(self.outer) + len(self.stacked)):
            graph.placeholder(f"outer_{place}")
        below = graph.call_function(aten.lt.Tensor, (number, trips))
        graph.output(graph.call_function(aten.logical_and.default, (below, going)))
        return graph

    def _write_call(self, name: str) -> None:
        graph, call = self.graph, self.graph.call_function
        with graph.inserting_before(self.node):
            number = call(aten.full.default, ([], 0), {"dtype": torch.int64})
            trips = call(aten.full.default, ([], self.count), {"dtype": torch.int64})
            going = self._before()
            last = [
                call(aten.full.default, (list(shape), 0), {"dtype": dtype})
                for shape, dtype in self.extras
            ]
            carried = [_copy(graph, node) for node in self.carried]
            outer = _separate(graph, [*self.outer, *self.stacked], set())
            loop = call(
                while_loop,
                (
                    graph.get_attr(f"{name}_condition"),
                    graph.get_attr(f"{name}_body"),
                    (number, going, *carried, *last),
                    (trips, *outer),
                ),
            )
        for item in list(self.node.users):
            item.args = (loop, int(item.args[1]) + _LEADING)  # type: ignore[arg-type]
        loop.meta.update(self.node.meta)
        graph.erase_node(self.node)

    def _before(self) -> fx.Node:
        """Return whether to run the first iteration."""
        call = self.graph.call_function
        if self.before is None:
            return call(aten.full.default, ([], True), {"dtype": torch.bool})
        if self.body.until:
            return call(aten.logical_not.default, (self.before,))
        return call(aten.logical_and.default, (self.before, self.before))


def _chosen(values: Iterable[Any], flags: Iterable[bool]) -> list[Any]:
    return [value for value, flag in zip(values, flags, strict=True) if flag]


def _needed(
    places: Sequence[fx.Node], after: Sequence[fx.Node], slots: set[int], roots: Sequence[fx.Node]
) -> list[int]:
    """Return the carried slots that reach the given ones or the roots, over all iterations."""
    slot_of = {place: slot for slot, place in enumerate(places)}
    work = [*roots, *(after[slot] for slot in slots)]
    seen: set[fx.Node] = set()
    while work:
        node = work.pop()
        if node in seen:
            continue
        seen.add(node)
        slot = slot_of.get(node)
        if slot is not None and slot not in slots:
            work.append(after[slot])
        if slot is not None:
            slots = slots | {slot}
        work += node.all_input_nodes
    return sorted(slots)


def _storage(node: fx.Node) -> fx.Node:
    """Return the node whose memory a node may share."""
    while node.op == "call_function" and node.all_input_nodes:
        target = node.target
        aliases = target in _MAY_ALIAS or (
            isinstance(target, torch._ops.OpOverload)  # noqa: SLF001  (no public name)
            and any(item.alias_info for item in target._schema.returns)  # noqa: SLF001
        )
        if not aliases or node.all_input_nodes[0].target in (repeat, while_loop):
            break
        node = node.all_input_nodes[0]
    return node


def _separate(graph: fx.Graph, nodes: Sequence[fx.Node], taken: set[fx.Node]) -> list[fx.Node]:
    """Return the nodes, copies where two share memory: a `while_loop` accepts no two that do."""
    separate = []
    for node in nodes:
        storage = _storage(node)
        separate.append(_copy(graph, node) if storage in taken else node)
        taken.add(storage)
    return separate


def _copy(graph: fx.Graph, node: fx.Node) -> fx.Node:
    """Return an equal value in its own memory, rows in order: what a loop carries is strided so."""
    return graph.call_function(
        aten.clone.default, (node,), {"memory_format": torch.contiguous_format}
    )


def translate_loop(
    condition: ir.Function,
    body: ir.Function,
    carried: Sequence[ir.Value],
    additional: Sequence[ir.Value],
) -> Sequence[ir.Value]:
    """Translate a `while_loop` that `emit_loops` wrote: a `Loop` with a trip count.

    Arguments:
        condition: Unused: the number of iterations and the body's second output say it all.
        body: One iteration.
        carried: Number, going on, then what the loop carries.
        additional: Trip count, then what every iteration reads.
    """
    del condition
    _, going, *own = carried
    trips = additional[0]
    names = [f"{body.name}_in_{place}" for place in range(len(own))]
    inputs = [
        _scalar(f"{body.name}_number", ir.DataType.INT64),
        _scalar(f"{body.name}_going", ir.DataType.BOOL),
        *(
            ir.Value(name=name, shape=value.shape, type=value.type)
            for name, value in zip(names, own, strict=True)
        ),
    ]
    call = ir.Node(body.domain, body.name, [*inputs, *additional], num_outputs=len(body.outputs))
    for value, inner in zip(call.outputs, body.outputs, strict=True):
        value.name = f"{inner.name}_{body.name}"
    graph = ir.Graph(inputs, call.outputs[1:], nodes=[call], name=f"{body.name}_loop")
    tracer: Any = _core.current_tracer
    loop = ir.Node(
        "",
        "Loop",
        inputs=[trips, going, *own],
        attributes=[ir.AttrGraph("body", graph)],
        num_outputs=len(own),
        version=tracer.opset.version,
    )
    tracer.nodes.append(loop)
    unread = [ir.Value(name=None), ir.Value(name=None)]
    return [*unread, *loop.outputs]


def _scalar(name: str, kind: ir.DataType) -> ir.Value:
    return ir.Value(name=name, shape=ir.Shape([]), type=ir.TensorType(kind))


TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {while_loop: translate_loop}
"""For `torch.onnx.export(…, custom_translation_table=…)`."""
