"""Gates apart: a product that is split into pieces, each behind an activation of its own.

`value, gate = conv(x).chunk(2)` and `tanh(value) * sigmoid(gate)` are five operators, two of which
move numbers only. With a product per piece they are three: runtimes fuse a product with the
activation that alone reads it.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from toolkit.capture.causal.program import Program, ancestors, dtype_of, shape_of

aten = torch.ops.aten

# The axis of the result that the rows of the weight run along.
PRODUCTS = {
    aten.conv1d.default: 1,
    aten.conv1d.padding: 1,
    aten.conv2d.default: 1,
    aten.conv2d.padding: 1,
    aten.convolution.default: 1,
    aten.linear.default: -1,
}
SPLITS = frozenset({aten.split.Tensor, aten.split_with_sizes.default, aten.chunk.default})
FUSED = frozenset({aten.tanh.default, aten.sigmoid.default, aten.relu.default})
# More products cost more than they save.
MOST = 4


@dataclass(frozen=True, slots=True)
class Piece:
    """Some rows of a product.

    Arguments:
        node: What gives them.
        start: The first.
        size: How many.
    """

    node: fx.Node
    start: int
    size: int


def gates_apart(program: Program) -> Program:
    """Return the program with a product per gate; its graph is changed in place.

    Arguments:
        program: A captured network.
    """
    const = dict(program.const)
    nodes: list[fx.Node] = []
    for node in program.nodes:
        nodes += [*(_product(node, piece, const) for piece in _pieces(node, const)), node]
    needed = ancestors(program.outputs)
    kept = tuple(node for node in nodes if node in needed)
    return Program(kept, const, program.inputs, program.outputs)


def _pieces(node: fx.Node, const: dict[fx.Node, Any]) -> list[Piece]:
    """Return the pieces of a product that are worth products of their own."""
    axis = PRODUCTS.get(node.target)  # type: ignore[call-overload]
    if axis is None or not _plain(node, const):
        return []
    pieces = list(_parts(node, axis % len(shape_of(node))))
    readers = [[*piece.node.users] for piece in pieces]
    alone = sum(len(users) == 1 and users[0].target in FUSED for users in readers)
    covered = sum(piece.size for piece in pieces)
    taken = {piece.node if piece.node in node.users else piece.node.args[0] for piece in pieces}
    whole = covered == shape_of(node)[axis] and len(taken) == len(node.users)
    return pieces if alone and whole and 1 < len(pieces) <= min(MOST, alone + 1) else []


def _plain(node: fx.Node, const: dict[fx.Node, Any]) -> bool:
    """Return whether weight and bias are constants and channels are neither grouped nor turned."""
    args: Any = node.args
    turned, groups = args[6:-1][:1], args[-1] if len(args) > 6 else 1
    if node.kwargs or groups != 1 or any(turned):
        return False
    return args[0] not in const and all(item is None or item in const for item in args[1:3])


def _parts(node: fx.Node, axis: int) -> Iterator[Piece]:
    """Yield what takes some rows of a product; rows that are read otherwise are left out."""
    for user in node.users:
        args: Any = user.args
        if user.target is aten.slice.Tensor and not user.kwargs:
            given: Any = (*args[1:], *(0, None, None, 1)[len(args) - 1 :])
            dim, (first, last, stride) = given[0], slice(*given[1:]).indices(shape_of(node)[axis])
            if dim % len(shape_of(node)) == axis and stride == 1:
                yield Piece(user, first, last - first)
        elif user.target in SPLITS:
            along: Any = args[2] if len(args) > 2 else user.kwargs.get("dim", 0)
            items = [item for item in user.users if item.target is operator.getitem]
            if along % len(shape_of(node)) != axis or len(items) < len(user.users):
                continue
            starts = _starts(user, shape_of(node)[axis])
            for item in items:
                number: Any = item.args[1]
                yield Piece(item, starts[number], shape_of(item)[axis])


def _starts(split: fx.Node, size: int) -> list[int]:
    """Return where the pieces of a split start."""
    given: Any = split.args[1]
    if split.target is aten.split_with_sizes.default:
        return [sum(given[:number]) for number in range(len(given))]
    step = -(-size // given) if split.target is aten.chunk.default else given
    return list(range(0, size, step))


def _product(node: fx.Node, piece: Piece, const: dict[fx.Node, Any]) -> fx.Node:
    """Return the product of a piece's rows, in the place of the piece."""
    x, *constants = node.args[:3]
    narrowed: list[Any] = []
    with node.graph.inserting_before(node):
        for item in constants:
            if not isinstance(item, fx.Node):
                narrowed.append(item)
                continue
            value: Tensor = const[item].narrow(0, piece.start, piece.size).clone()
            narrowed.append(node.graph.placeholder(f"{item.name}_{piece.start}"))
            narrowed[-1].meta["val"] = _blank(value.shape, value.dtype)
            const[narrowed[-1]] = value
        target: Any = node.target
        made = node.graph.call_function(target, (x, *narrowed, *node.args[3:]))
    made.meta.update(node.meta)
    made.meta["val"] = _blank(shape_of(piece.node), dtype_of(piece.node))
    piece.node.replace_all_uses_with(made)
    return made


def _blank(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    return torch.empty(tuple(shape), dtype=dtype, device="meta")
