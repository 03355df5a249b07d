"""A program over pictures as streams of pixels: what each reads, and how one pixel is computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from torch import Tensor, fx
from torch.utils import _pytree as pytree

from toolkit.capture.causal.lane import Known, Poison, Refusal
from toolkit.capture.causal.program import Program, dtype_of, shape_of
from toolkit.capture.causal.wave.geometry import Rect, Tap

HERE = (0, 0)


class Now(Protocol):
    """What is at hand while one step is computed; columns are `(items, …)`, without the pixels."""

    def column(self, stream: Stream, tap: Tap, reader: Stream) -> Tensor:
        """Return a stream's entry at a tap of the reader."""

    def past(self, reader: Stream) -> tuple[Tensor | None, Sequence[Tap]]:
        """Return the earlier entries that a convolution reads, side by side, and their taps."""

    def here(
        self, reader: Stream, source: Stream, taps: Sequence[Tap]
    ) -> tuple[Tap, Tensor] | None:
        """Return the entry that a convolution reads in the step that computes it, and its tap."""

    def known(self, request: Request) -> Tensor:
        """Return a known value, or its entry at the reader's pixel."""


@dataclass(eq=False)
class Stream:
    """Something that is computed pixel by pixel.

    Arguments:
        node: The node that asks for it.
        shape: Shape of the whole tensor.
        axes: Its axes of rows and of columns.
        compute: Gives the column.
        origin: Its first entry, in the coordinates in which it is read.
        reads: The streams that it reads, and where.
        requests: The known values that it reads.
        weights: Weights per tap.
    """

    node: fx.Node
    shape: tuple[int, ...]
    axes: tuple[int, int]
    compute: Callable[[Now], Tensor]
    origin: Tap = HERE
    reads: list[tuple[Stream, tuple[Tap, ...]]] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    weights: int = 0

    def taps(self, row: int | None = None) -> int:
        """Return how many taps read anything, or a row of it."""
        return sum(row in (None, dy) for _, taps in self.reads for dy, _ in taps)

    @property
    def domain(self) -> Rect:
        """All entries."""
        return Rect(0, 0, *(self.shape[axis] for axis in self.axes)).moved(self.origin)

    @property
    def rest(self) -> tuple[int, ...]:
        """Shape of a column behind the batch."""
        return tuple(size for axis, size in enumerate(self.shape) if axis not in self.axes)[1:]


@dataclass(frozen=True, eq=False)
class Field:
    """A tensor over pixels: entry `(y, x)` is the stream's at `(y, x) + offset`, else zero.

    Arguments:
        stream: Computes it.
        shape: Shape of the whole tensor.
        axes: Its axes of rows and of columns.
        offset: Where the stream's entries lie.
    """

    stream: Stream
    shape: tuple[int, ...]
    axes: tuple[int, int]
    offset: Tap = HERE

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.shape[self.axes[0]], self.shape[self.axes[1]]

    @property
    def from_end(self) -> tuple[int, int]:
        """The axes of rows and columns, counted from the end."""
        return self.axes[0] - len(self.shape), self.axes[1] - len(self.shape)

    @property
    def padded(self) -> bool:
        """Whether it holds entries that its stream has not."""
        inside = Rect(0, 0, *self.size).moved(self.offset)
        return inside.cut(self.stream.domain) != inside


@dataclass(frozen=True)
class Request:
    """A known value that meets columns.

    Arguments:
        node: The node that gives it.
        axes: Its axes of rows and of columns, those that it has.
        rank: Rank of the columns that it meets.
        reader: Number of the stream that reads an entry per pixel; -1 where all are the same.
    """

    node: fx.Node
    axes: tuple[int, ...]
    rank: int
    reader: int = -1


@dataclass(frozen=True)
class Parts:
    """The pieces of a field that was split on another axis.

    Arguments:
        whole: The field.
        dim: The axis.
        pieces: The pieces of a column.
        removes: Whether the split removes its axis.
    """

    whole: Field
    dim: int
    pieces: Callable[[Tensor], Any]
    removes: bool


Rule = Callable[..., Any]


class Plane:
    """Walk a program over pictures once, and give every node its field.

    Arguments:
        program: The program; its first input is the picture.
        axes: Axes of rows and of columns of that input.
        rules: The rule of each operator.
    """

    def __init__(self, program: Program, axes: tuple[int, int], rules: dict[Any, Rule]) -> None:
        self.program, self.rules = program, rules
        source, *known = program.inputs
        self.streams: list[Stream] = []
        self.source = Stream(source, shape_of(source), axes, _unread)
        self.streams.append(self.source)
        self.values: dict[fx.Node, Any] = {
            source: Field(self.source, shape_of(source), axes),
            **{node: Known(node) for node in known},
            **{node: Known(node, value) for node, value in program.const.items()},
        }
        for node in program.nodes:
            self.values[node] = self._visit(node)

    def _visit(self, node: fx.Node) -> Any:
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), self.values.__getitem__)
        leaves = pytree.tree_leaves((args, kwargs))
        poisoned = next((leaf for leaf in leaves if isinstance(leaf, Poison)), None)
        if poisoned is not None:
            return poisoned
        if not any(isinstance(leaf, Field | Parts) for leaf in leaves):
            return Known(node)
        rule = self.rules.get(node.target)
        if rule is None:
            return Poison(Refusal(node, "no rule of wavefronts for this operator"))
        try:
            return rule(self, node, *args, **kwargs)
        except Refusal as refusal:
            return Poison(refusal)

    def output(self) -> Stream:
        """Return the stream of the first output.

        Raises:
            Refusal: It cannot be computed pixel by pixel.
        """
        node = self.program.outputs[0]
        value = self.values[node]
        if isinstance(value, Poison):
            raise value.refusal
        if not isinstance(value, Field) or value.offset != HERE or value.padded:
            raise Refusal(node, "the output is not computed pixel by pixel")
        return value.stream

    def const(self, node: fx.Node, value: Any) -> Any:
        """Return a constant argument of a rule; what is no graph value is returned as it is.

        Raises:
            Refusal: The argument is only known at run time, or runs over pixels.
        """
        if isinstance(value, Known) and value.const is not None:
            return value.const
        if isinstance(value, Known | Field):
            raise Refusal(node, "this argument must be a parameter or constant")
        return value

    def stream(
        self,
        node: fx.Node,
        axes: tuple[int, int],
        reads: Sequence[tuple[Stream, tuple[Tap, ...]]],
        compute: Callable[[Now], Tensor],
        origin: Tap = HERE,
    ) -> Field:
        """Return the field of a new stream, one entry per entry of the node's tensor."""
        shape = shape_of(node)
        if 0 in axes:
            raise Refusal(node, "moves the batch from its place")
        made = Stream(node, shape, axes, compute, origin, list(reads))
        self.streams.append(made)
        return Field(made, shape, axes, origin)

    def local(
        self, node: fx.Node, axes: tuple[int, int], x: Field, op: Callable[[Tensor], Tensor]
    ) -> Field:
        """Return a field each of whose columns is `op` of the column of `x`."""
        return self.apply(node, op, (x,), axes)

    def apply(
        self, node: fx.Node, op: Rule, args: Sequence[Any], axes: tuple[int, int] | None = None
    ) -> Field:
        """Return `op` pixel by pixel, its operands broadcast against one another.

        Raises:
            Refusal: The operands' pixels do not match.
        """
        fields = [leaf for leaf in pytree.tree_leaves(args) if isinstance(leaf, Field)]
        first = fields[0]
        if len({(item.from_end, len(item.shape), item.size) for item in fields}) > 1:
            raise Refusal(node, "operands differ in their axes of pixels")
        offsets = {item.offset for item in fields}
        # Where all lie alike, the result lies like them: its pixels are their pixels.
        origin = first.offset if len(offsets) == 1 else HERE
        made: list[Stream] = []
        requests: list[Request] = []

        def tap(x: Field) -> Tap:
            return x.offset[0] - origin[0], x.offset[1] - origin[1]

        def operand(value: Any) -> Callable[[Now], Any]:
            if isinstance(value, Field):
                return lambda now: now.column(value.stream, tap(value), made[0])
            if isinstance(value, Known):
                return self._known(node, value, first, requests, number)
            return lambda _: value

        number = len(self.streams)
        given = pytree.tree_map(operand, tuple(args))

        def compute(now: Now) -> Tensor:
            found: Tensor = op(*pytree.tree_map(lambda give: give(now), given))
            return found

        if axes is None:
            rank = len(shape_of(node))
            axes = (rank + first.from_end[0], rank + first.from_end[1])
        result = self.stream(
            node, axes, [(item.stream, (tap(item),)) for item in fields], compute, origin
        )
        made.append(result.stream)
        result.stream.requests = requests
        return result

    def _known(
        self, node: fx.Node, value: Known, like: Field, requests: list[Request], reader: int
    ) -> Callable[[Now], Any]:
        """Return how a known value meets the columns of a field."""
        if value.const is not None and not isinstance(value.const, Tensor):
            return lambda _: value.const
        shape = shape_of(value.node) if value.const is None else tuple(value.const.shape)
        rank, (down, across) = len(shape), like.from_end
        sizes = [shape[axis] if rank + axis >= 0 else 1 for axis in (down, across)]
        present = tuple(rank + axis for axis in (down, across) if rank + axis >= 0)
        if sizes == [1, 1]:
            single = rank < len(like.shape) or shape[0] == 1
            if value.const is not None and single:
                squeezed = value.const.squeeze(present)
                return lambda _: squeezed
            request = Request(value.node, present, len(like.shape) - 2)
        elif (sizes[0], sizes[1]) == like.size:
            request = Request(value.node, present, len(like.shape) - 2, reader)
        else:
            raise Refusal(node, "a known value does not match the pixels")
        requests.append(request)
        return lambda now: now.known(request)


def moved(x: Field, shape: tuple[int, ...], tap: Tap) -> Field:
    """Return the field of another size whose entry 0 is at `tap` of this one."""
    return replace(x, shape=shape, offset=(x.offset[0] + tap[0], x.offset[1] + tap[1]))


def dtype(stream: Stream) -> Any:
    """Return the element type of a stream."""
    return dtype_of(stream.node)


def _unread(now: Now) -> Tensor:
    """Stand for the column of the picture, which is given."""
    raise NotImplementedError(f"the picture is drawn by {type(now).__name__}")
