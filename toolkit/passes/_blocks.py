"""Writes a sweep over a triangular map as one small loop per block of its features."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from toolkit.passes._graph import Array, constant, dims, has_body, is_op, new_constant
from toolkit.passes._units import CHOICES, NONE, PRODUCTS, Network, units, weights

NEVER = np.iinfo(np.int64).max


class Unfit(Exception):
    """A sweep is not of the kind that can be cut."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """A loop that carries features to a fixed point.

    Arguments:
        loop: The node.
        body: Its body.
        network: How its units depend on the features.
        after: What one pass gives: the features, and what else depends on the last pass alone.
        blocks: Features of each block, blocks in an order in which each depends on earlier ones.
        stops: Whether the loop ends where nothing changes any more.
    """

    loop: ir.Node
    body: ir.Graph
    network: Network
    after: Sequence[ir.Value]
    blocks: Sequence[Array]
    stops: bool


class Solver:
    """Writes the blocks of one sweep in front of its loop.

    A value of the body is written in pieces: its units that are evaluated with a block, in order.

    Arguments:
        sweep: What is solved.
    """

    def __init__(self, sweep: Sweep) -> None:
        self.sweep, self.network, self.loop = sweep, sweep.network, sweep.loop
        self.level = _levels(sweep)
        self.solved: list[ir.Value] = []
        self.made: dict[object, ir.Value] = {}
        self.body = _Body(sweep.network.x, [], {})

    def solve(self) -> list[ir.Value]:
        """Write all blocks; return what stands for the loop's outputs.

        Raises:
            Unfit: A value cannot be cut; what was written so far is still there.
        """
        for block in range(len(self.sweep.blocks)):
            self.solved.append(self._solved(block))
        return [self._whole(self.network.x), *map(self._outside, self.sweep.after[1:])]

    def _solved(self, block: int) -> ir.Value:
        """Write the loop of one block and return its features."""
        features, x = self.sweep.blocks[block], self.network.x
        name = f"{self.loop.outputs[0].name}_block_{block}"
        unknown = ir.Value(name=name, type=x.type, shape=_shape(x, len(features)))
        self.body = body = _Body(unknown, [], {})
        new = self._units(self.sweep.after[0], features, block)
        if body.holds(new):
            number, going = _scalar(f"{name}_number", INT64), _scalar(f"{name}_going", BOOL)
            outputs = [self._goes_on(new, going), new]
            graph = ir.Graph([number, going, unknown], outputs, nodes=body.nodes, name=name)
            self.body = _Body(unknown, [], {})
            trips = new_constant(self.loop, np.array(len(features)), "trips")
            start = self._lanes(self.loop.inputs[2], features)
            loop = self._node("Loop", [trips, self.loop.inputs[1], start], new, len(features))
            loop.attributes["body"] = ir.Attr("body", ir.AttributeType.GRAPH, graph)
            new = loop.outputs[0]
        self.body = _Body(unknown, [], {})
        return new

    def _goes_on(self, new: ir.Value, going: ir.Value) -> ir.Value:
        """Write whether the features of a block have changed."""
        if not self.sweep.stops:
            last = ir.node("Identity", [going], metadata_props=dict(self.loop.metadata_props))
            self.body.add(last)
        else:
            same = self._node("Equal", [new, self.body.unknown])
            number = self._node("Cast", [same.outputs[0]], to=ir.DataType.FLOAT.value)
            least = self._node("ReduceMin", [number.outputs[0]], keepdims=0)
            one = new_constant(self.loop, np.array(1, np.float32), "one")
            last = self._node("Less", [least.outputs[0], one])
        last.outputs[0].type, last.outputs[0].shape = ir.TensorType(BOOL), ir.Shape([])
        return last.outputs[0]

    def _members(self, value: ir.Value, block: int) -> Array:
        """Return the units of a value that are evaluated with a block."""
        return np.flatnonzero(self.level[value] == block)

    def _piece(self, value: ir.Value, block: int) -> ir.Value:
        """Return the members of a value as they are known while, or after, a block is solved."""
        if value is self.network.x:
            return self.solved[block] if block < len(self.solved) else self.body.unknown
        return self._kept(("piece", value, block), lambda: self._written(value, block))

    def _kept(self, key: object, make: Callable[[], ir.Value]) -> ir.Value:
        """Return what was made before, or make it: for good, or for the body that is written."""
        for kept in (self.made, self.body.made):
            if key in kept:
                return kept[key]
        found = make()
        (self.body.made if self.body.holds(found) else self.made)[key] = found
        return found

    def _written(self, value: ir.Value, block: int) -> ir.Value:
        """Write one piece of a value."""
        node, members = value.producer(), self._members(value, block)
        if node is None:
            raise Unfit
        if is_op(node, *PRODUCTS):
            return self._product(node, members, block)
        if is_op(node, "Split"):
            return self._split(node, value, block)
        if is_op(node, *CHOICES):
            return self._operand(node, 0, value, members, block)
        if is_op(node, "Concat"):
            return self._concat(node, members, block)
        given = [self._operand(node, p, value, members, block) for p in range(len(node.inputs))]
        return self._node(node.op_type, given, value, len(members), like=node).outputs[0]

    def _operand(
        self, node: ir.Node, place: int, output: ir.Value, members: Array, block: int
    ) -> ir.Value:
        """Return what members of an output read of one operand."""
        value = node.inputs[place]
        if value is None or value not in self.network.dependence:
            return self._lanes(value, members)
        wanted = _read(self.network, node, place, output)[members]
        alone = self.network.width(value) == 1
        return self._units(value, wanted[:1] if alone else wanted, block)

    def _split(self, node: ir.Node, value: ir.Value, block: int) -> ir.Value:
        """Write one piece, and the other outputs' pieces with it where they are all of a piece."""
        source = node.inputs[0]
        outputs = [output for output in node.outputs if output in self.network.dependence]
        members = [self._members(output, block) for output in outputs]
        reads = [_read(self.network, node, 0, output) for output in outputs]
        parts = [read[part] for read, part in zip(reads, members, strict=True)]
        if source is None or not np.array_equal(
            np.concatenate(parts), self._members(source, block)
        ):
            return self._operand(node, 0, value, self._members(value, block), block)
        piece = self._piece(source, block)
        made = self.body.made if self.body.holds(piece) else self.made
        pieces = self._parts(piece, [len(part) for part in parts])
        made.update({("piece", o, block): p for o, p in zip(outputs, pieces, strict=True)})
        return pieces[outputs.index(value)]

    def _concat(self, node: ir.Node, members: Array, block: int) -> ir.Value:
        """Write the members of a Concat, whose operands lie side by side."""
        output, start, parts = node.outputs[0], 0, list[ir.Value]()
        for place, value in enumerate(node.inputs):
            width = self._width(value)
            wanted = members[(members >= start) & (members < start + width)]
            if len(wanted) and value in self.network.dependence:
                parts.append(self._operand(node, place, output, wanted, block))
            elif len(wanted):
                parts.append(self._lanes(value, wanted - start))
            start += width
        return self._joined(parts, output)

    def _width(self, value: ir.Value | None) -> int:
        size = self.network.size(value)
        if size is None:
            raise Unfit
        return size

    def _product(self, node: ir.Node, members: Array, block: int) -> ir.Value:
        """Write a product: what this block gives to it, on what earlier ones have given."""
        source, output = node.inputs[0], node.outputs[0]
        given = self._kept(("given", output, block), lambda: self._given(node, members, block))
        if source is not None and len(now := self._members(source, block)):
            rows = _rows(node, now, members)
            if rows.any():
                given = self._gemm(node, self._piece(source, block), rows, given)
        added = node.inputs[2] if len(node.inputs) > 2 else None
        if added not in self.network.dependence:
            return given
        late = self._units(added, members, block)
        return self._node("Add", [given, late], output, len(members)).outputs[0]

    def _given(self, node: ir.Node, members: Array, block: int) -> ir.Value:
        """Write what a product is before a block gives anything to it."""
        source, added = node.inputs[0], node.inputs[2] if len(node.inputs) > 2 else None
        if source is None:
            raise Unfit
        if added is None or added in self.network.dependence:
            zeros = np.zeros(len(members), (node.outputs[0].dtype or FLOAT).numpy())
            base = new_constant(self.loop, zeros, "zeros")
        else:
            base = self._lanes(added, members)
        earlier = [other for other in range(block) if len(self._members(source, other))]
        if not earlier:
            return base
        rows = _rows(node, np.concatenate([self._members(source, b) for b in earlier]), members)
        if not rows.any():
            return base
        pieces = [self._piece(source, other) for other in earlier]
        known = self._kept(("known", source, block), lambda: self._joined(pieces, source))
        return self._gemm(node, known, rows, base)

    def _gemm(self, node: ir.Node, x: ir.Value, rows: Array, base: ir.Value) -> ir.Value:
        stored = new_constant(self.loop, np.ascontiguousarray(rows), "weights")
        return self._node("Gemm", [x, stored, base], node.outputs[0], rows.shape[1]).outputs[0]

    def _units(self, value: ir.Value | None, wanted: Array, block: int) -> ir.Value:
        """Return units of a value in the order given, as they are known while a block is solved."""
        if value is None:
            raise Unfit
        members = self._members(value, block)
        if np.isin(wanted, members).all():
            return self._taken(self._piece(value, block), np.searchsorted(members, wanted))
        parts = {b: part for b in range(block + 1) if len(part := self._members(value, b))}
        everything = np.concatenate([*parts.values()])
        if not np.isin(wanted, everything).all():
            raise Unfit
        order = np.argsort(everything)
        places = order[np.searchsorted(everything, wanted, sorter=order)]
        return self._taken(self._joined([self._piece(value, b) for b in parts], value), places)

    def _whole(self, value: ir.Value) -> ir.Value:
        """Return all units of a value once every block is solved."""
        last = len(self.sweep.blocks) - 1
        return self._units(value, np.arange(self.network.width(value)), last)

    def _lanes(self, value: ir.Value | None, wanted: Array) -> ir.Value:
        """Return units of an operand that does not depend on the features."""
        array, shape = constant(value), dims(value)
        sizes = array.shape if array is not None else shape
        if value is None or sizes is None or (array is None and len(sizes) > 2):
            raise Unfit
        if not sizes or sizes[-1] == 1:
            return self._outside(value)
        if not isinstance(sizes[-1], int):
            raise Unfit
        key = ("lanes", value, wanted.tobytes())
        if array is not None:
            chosen, name = array[..., wanted], value.name or "lanes"
            return self._kept(key, lambda: new_constant(self.loop, chosen, name))
        self._share(value, sizes[-1])
        return self._kept(key, lambda: self._taken(self._outside(value), wanted))

    def _share(self, value: ir.Value, width: int) -> None:
        """Cut an operand into all blocks at once, where they lie side by side in it."""
        blocks = self.sweep.blocks
        keys = [("lanes", value, features.tobytes()) for features in blocks]
        if keys[0] not in self.made and np.array_equal(np.concatenate(blocks), np.arange(width)):
            parts = self._parts(self._outside(value), [len(features) for features in blocks])
            self.made.update(zip(keys, parts, strict=True))

    def _outside(self, value: ir.Value) -> ir.Value:
        """Return a value of the body in front of the loop, at the fixed point."""
        if value in self.network.dependence:
            return self._kept(("whole", value), lambda: self._whole(value))
        node = value.producer()
        if node is not None and node.graph is self.sweep.body:
            return self._kept(("outside", value), lambda: self._copied(node, value))
        if value in self.sweep.body.inputs:
            raise Unfit
        return value

    def _copied(self, node: ir.Node, value: ir.Value) -> ir.Value:
        if has_body(node):
            raise Unfit
        given = [item if item is None else self._outside(item) for item in node.inputs]
        copy = self._node(node.op_type, given, like=node, outputs=len(node.outputs))
        for new, old in zip(copy.outputs, node.outputs, strict=True):
            new.type, new.shape = old.type, old.shape
        return copy.outputs[list(node.outputs).index(value)]

    def _taken(self, value: ir.Value, places: Array) -> ir.Value:
        """Return some units of a value, in the order given."""
        shape = dims(value)
        if shape is None:
            raise Unfit
        if np.array_equal(places, np.arange(int(shape[-1]))):
            return value
        axis = len(shape) - 1
        if (np.diff(places) != 1).any():
            order = new_constant(self.loop, places, "order")
            return self._node("Gather", [value, order], value, len(places), axis=axis).outputs[0]
        bounds = [
            new_constant(self.loop, np.array([number]), name)
            for number, name in ((places[0], "start"), (places[-1] + 1, "end"), (axis, "axis"))
        ]
        return self._node("Slice", [value, *bounds], value, len(places)).outputs[0]

    def _parts(self, value: ir.Value, sizes: Sequence[int]) -> Sequence[ir.Value]:
        """Write a value in parts along its last axis."""
        if len(sizes) == 1:
            return [value]
        axis = len(dims(value) or ()) - 1
        stored = new_constant(self.loop, np.array(sizes), "sizes")
        node = self._node("Split", [value, stored], outputs=len(sizes), axis=axis)
        for output, size in zip(node.outputs, sizes, strict=True):
            output.type, output.shape = value.type, _shape(value, size)
        return node.outputs

    def _joined(self, pieces: Sequence[ir.Value], like: ir.Value) -> ir.Value:
        """Write pieces side by side."""
        if len(pieces) == 1:
            return pieces[0]
        width = sum(self._width(piece) for piece in pieces)
        return self._node("Concat", pieces, like, width, axis=1).outputs[0]

    def _node(
        self,
        operator: str,
        given: Sequence[ir.Value | None],
        shaped: ir.Value | None = None,
        width: int = 0,
        *,
        like: ir.Node | None = None,
        outputs: int = 1,
        **attributes: int,
    ) -> ir.Node:
        """Write a node into the body where an operand lies there, else in front of the loop.

        Arguments:
            operator: A standard operator.
            given: Its operands.
            shaped: A value with the type and all sizes but the last of its result.
            width: The last size.
            like: The node of the old body whose attributes it has.
            outputs: How many outputs it has.
            attributes: Its other attributes.
        """
        node = ir.node(
            operator,
            list(given),
            attributes=attributes,
            num_outputs=outputs,
            metadata_props=dict((like and like.metadata_props) or self.loop.metadata_props),
        )
        if like is not None:
            node.attributes.update(like.attributes)
        if shaped is not None:
            known = shaped if shaped.type and shaped.shape else self.network.x
            node.outputs[0].type, node.outputs[0].shape = known.type, _shape(known, width)
        if any(value is not None and self.body.holds(value) for value in given):
            self.body.add(node)
        elif self.loop.graph is not None:
            self.loop.graph.insert_before(self.loop, node)
        return node


@dataclass(frozen=True, slots=True)
class _Body:
    """The body of a block's loop while it is written.

    Arguments:
        unknown: The block's features.
        nodes: Its nodes.
        made: What has been made in it.
    """

    unknown: ir.Value
    nodes: list[ir.Node]
    made: dict[object, ir.Value]

    def holds(self, value: ir.Value) -> bool:
        """Return whether a value changes from pass to pass."""
        return value is self.unknown or value.producer() in self.nodes

    def add(self, node: ir.Node) -> None:
        """Append a node, under names that no other body has."""
        for place, output in enumerate(node.outputs):
            output.name = f"{self.unknown.name}_{len(self.nodes)}_{place}"
        self.nodes.append(node)


INT64, BOOL, FLOAT = ir.DataType.INT64, ir.DataType.BOOL, ir.DataType.FLOAT


def _levels(sweep: Sweep) -> dict[ir.Value, Array]:
    """Return the block with which each unit of each value is evaluated.

    A unit that feeds a product is evaluated as soon as it can be, any other when it is read.
    """
    network, x = sweep.network, sweep.network.x
    home = np.empty(network.width(x), int)
    for block, features in enumerate(sweep.blocks):
        home[features] = block
    soonest = {v: np.where(given, home, 0).max(1) for v, given in network.dependence.items()}
    level = {value: np.full(len(blocks), NEVER) for value, blocks in soonest.items()}
    read = {value for after in sweep.after for value in _read_outside(sweep, after)}
    for value in (x, *read):
        fits = len(soonest[value]) == len(home) and (soonest[value] <= home).all()
        level[value] = home if fits else soonest[value]
    for node in reversed(network.nodes):
        for output in [output for output in node.outputs if output in level]:
            for place, value in network.operands(node):
                if value is x:
                    continue
                if is_op(node, *PRODUCTS) and place == 0:
                    wanted = soonest[value]
                else:
                    wanted = np.full(len(level[value]), NEVER)
                    places = _read(network, node, place, output)
                    np.minimum.at(wanted, places[places != NONE], level[output][places != NONE])
                level[value] = np.minimum(level[value], wanted)
    return level


def _read_outside(sweep: Sweep, value: ir.Value) -> Iterator[ir.Value]:
    """Yield the network's values that a result is made of outside the network."""
    if value in sweep.network.dependence:
        yield value
    elif (node := value.producer()) is not None and node.graph is sweep.body:
        for given in node.inputs:
            if given is not None:
                yield from _read_outside(sweep, given)


def _read(network: Network, node: ir.Node, place: int, output: ir.Value) -> Array:
    """Return the unit of an operand that each unit of an output reads."""
    found = units(network, node, place, output)
    if found is None:
        raise Unfit
    return found


def _rows(node: ir.Node, inputs: Array, outputs: Array) -> Array:
    """Return the weights between some units."""
    matrix = weights(node)
    if matrix is None:
        raise Unfit
    rows: Array = matrix[np.ix_(inputs, outputs)]
    return rows


def _scalar(name: str, dtype: ir.DataType) -> ir.Value:
    return ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape([]))


def _shape(value: ir.Value, width: int) -> ir.Shape:
    sizes = list(value.shape or ())
    return ir.Shape([*sizes[:-1], width])
