"""A traced function as a module whose batch is free: two traces at two batches, unified."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from toolkit.capture.causal.lean import lean
from toolkit.capture.causal.program import Program, trace
from toolkit.core.errors import ExportError

# Prime to each other and to 1, so that a size tells how it depends on the batch.
BATCHES = (2, 3)


@dataclass(frozen=True, slots=True)
class Affine:
    """A size that is `per * batch + offset`."""

    per: int
    offset: int

    def at(self, batch: Any) -> Any:
        """Return the size at a batch."""
        size = batch if self.per == 1 else self.per * batch
        return size + self.offset if self.offset else size


@dataclass(frozen=True, slots=True)
class Slot:
    """A place of an argument that is filled when the body runs: a node's value or a constant."""

    name: str


@dataclass(frozen=True, slots=True)
class Operation:
    """One operator of a body, with slots in the place of tensors."""

    name: str
    target: Callable[..., Any]
    args: Any
    kwargs: Any


class Body(nn.Module):
    """A functional graph with a free batch, its constants as buffers.

    It runs in the precision and on the device that its buffers are moved to.

    Arguments:
        operations: The operators in order.
        constants: Per name the value; tensors as buffers.
        tiled: Axes of constants that repeat once per item: `(name, axis)`.
        inputs: Names of the inputs.
        outputs: Names of the outputs.
    """

    precision: Tensor

    def __init__(
        self,
        operations: Sequence[Operation],
        constants: dict[str, Tensor],
        tiled: Sequence[tuple[str, int]],
        inputs: Sequence[str],
        outputs: Sequence[str],
    ) -> None:
        super().__init__()
        self.operations, self.tiled = tuple(operations), tuple(tiled)
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        self.names = tuple(constants)
        self.register_buffer("precision", torch.zeros((), dtype=torch.float64))
        for name, value in constants.items():
            # Its own memory: a scan must not be given two views of one tensor.
            self.register_buffer(name, value.clone(memory_format=torch.contiguous_format))

    def constants(self) -> list[Tensor]:
        """Return the constants, for a loop that takes them as arguments of `run`."""
        return [self.get_buffer(name) for name in self.names]

    def forward(self, batch: Any, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Run at a batch."""
        return self.run(batch, inputs, self.constants())

    def run(
        self, batch: Any, inputs: Sequence[Tensor], constants: Sequence[Tensor]
    ) -> tuple[Tensor, ...]:
        """Run with the given constants in the place of the buffers.

        Arguments:
            batch: The batch, an integer or a symbolic one.
            inputs: The inputs.
            constants: What `constants()` returned, or what stands for it inside a loop.
        """
        values: dict[str, Any] = dict(zip(self.names, constants, strict=True))
        for name, axis in self.tiled:
            values[name] = _repeated(values[name], axis, batch)
        values.update(zip(self.inputs, inputs, strict=True))

        for operation in self.operations:
            args, kwargs = (
                self._filled(given, values, batch) for given in (operation.args, operation.kwargs)
            )
            values[operation.name] = operation.target(*args, **kwargs)
        # In their own memory and plainly laid out, as a loop wants its states.
        plain = torch.contiguous_format
        return tuple(values[name].clone(memory_format=plain) for name in self.outputs)

    # A method: a closure that calls itself is a cycle, which would keep every value of every step.
    def _filled(self, given: Any, values: dict[str, Any], batch: Any) -> Any:
        """Return arguments with values in the place of their names.

        Thousands of steps are run in eager: a general walk of trees takes longer than they.
        """
        if isinstance(given, Slot):
            return values[given.name]
        if isinstance(given, list | tuple):
            return [self._filled(item, values, batch) for item in given]
        if isinstance(given, dict):
            return {name: self._filled(item, values, batch) for name, item in given.items()}
        if isinstance(given, Affine):
            return given.at(batch)
        if isinstance(given, torch.device):
            return self.precision.device
        return self.precision.dtype if given is torch.float64 else given

    def shape(self, index: int) -> tuple[int, ...]:
        """Return the shape of the constant output `index` per item of the batch."""
        return tuple(self.get_buffer(self.outputs[index]).shape)


def _repeated(value: Tensor, axis: int, batch: Any) -> Tensor:
    """Return a constant with its block along `axis` once per item."""
    if value.shape[axis] == 1:
        sizes = [-1] * value.ndim
        sizes[axis] = batch
        return value.expand(sizes)
    counts = [1] * value.ndim
    counts[axis] = batch
    return value.repeat(counts)


def body(make: Callable[[int], tuple[Callable[..., Any], Sequence[Tensor]]], what: str) -> Body:
    """Trace a function at two batches and return it with a free one.

    Arguments:
        make: A batch to the function and its example inputs at that batch.
        what: Name of the function, for errors.

    Raises:
        ExportError: The function is another one at another batch.
    """
    try:
        one, other = (lean(trace(*make(batch))) for batch in BATCHES)
        return _Unifier(one, other, what).body()
    except ExportError:
        # Sizes that are equal by chance look like axes that stay where they are.
        one, other = (trace(*make(batch)) for batch in BATCHES)
        return _Unifier(one, other, what).body()


class _Unifier:
    """Two programs of one function at two batches."""

    def __init__(self, one: Program, other: Program, what: str) -> None:
        self.one, self.other, self.what = one, other, what
        self.names: dict[fx.Node, str] = {}
        self.constants: dict[str, Tensor] = {}
        self.tiled: list[tuple[str, int]] = []
        self.held: dict[tuple[Any, ...], str] = {}

    def body(self) -> Body:
        one, other = self.one, self.other
        if len(one.nodes) != len(other.nodes):
            raise self._error("has another number of operators")
        for number, node in enumerate(one.inputs):
            self.names[node] = f"input_{number}"
        operations: list[Operation] = []
        done: dict[str, str] = {}
        for number, (node, twin) in enumerate(zip(one.nodes, other.nodes, strict=True)):
            if node.target is not twin.target:
                raise self._error(f"runs {node.target} or {twin.target}")
            args, kwargs = self._unified((node.args, node.kwargs), (twin.args, twin.kwargs))
            # The same operator on the same arguments is done once.
            form = repr((node.target, args, kwargs))
            name = self.names[node] = done.setdefault(form, f"value_{number}")
            if name == f"value_{number}":
                operations.append(Operation(name, node.target, args, kwargs))  # type: ignore[arg-type]
        outputs = [
            self._slot(node, twin).name
            for node, twin in zip(one.outputs, other.outputs, strict=True)
        ]
        inputs = [self.names[node] for node in one.inputs]
        return Body(operations, self.constants, self.tiled, inputs, outputs)

    def _unified(self, one: Any, other: Any) -> Any:
        left, spec = pytree.tree_flatten(one)
        right, _ = pytree.tree_flatten(other)
        if len(left) != len(right):
            raise self._error("takes other arguments")
        leaves = [self._leaf(a, b) for a, b in zip(left, right, strict=True)]
        return pytree.tree_unflatten(leaves, spec)

    def _leaf(self, one: Any, other: Any) -> Any:
        if isinstance(one, fx.Node):
            return self._slot(one, other)
        if one == other or one is other:
            return one
        if isinstance(one, int) and isinstance(other, int):
            return self._affine(one, other)
        raise self._error(f"takes {one} or {other}")

    def _affine(self, one: int, other: int) -> Affine:
        per, left = divmod(other - one, BATCHES[1] - BATCHES[0])
        if left:
            raise self._error(f"takes the size {one} or {other}")
        return Affine(per, one - per * BATCHES[0])

    def _slot(self, one: fx.Node, other: fx.Node) -> Slot:
        if one in self.names:
            return Slot(self.names[one])
        value, twin = self.one.const[one], self.other.const[other]
        form = (value.dtype, value.shape, twin.shape, value.numpy().tobytes())
        if form not in self.held:
            name = self.held[form] = f"constant_{len(self.constants)}"
            self.constants[name] = self._constant(name, value, twin)
        self.names[one] = self.held[form]
        return Slot(self.held[form])

    def _constant(self, name: str, value: Tensor, twin: Tensor) -> Tensor:
        """Return a constant's block per item, and note the axis along which it repeats."""
        for axis in range(value.ndim):
            if value.shape[axis] == twin.shape[axis]:
                continue
            size = self._affine(value.shape[axis], twin.shape[axis])
            block = value.narrow(axis, 0, size.per)
            whole = all(
                torch.equal(_repeated(v.narrow(axis, 0, size.per), axis, b), v)
                for v, b in zip((value, twin), BATCHES, strict=True)
            )
            if size.offset or not whole:
                raise self._error("holds a constant that is another one per item")
            self.tiled.append((name, axis))
            value, twin = block, twin.narrow(axis, 0, size.per)
        if not torch.equal(value, twin):
            raise self._error("holds a constant that changes with the batch")
        return value

    def _error(self, how: str) -> ExportError:
        return ExportError(
            f"the network mixes the items of a batch: {self.what} {how}",
            where=f"batches of {BATCHES[0]} and {BATCHES[1]}",
            next_step="compute every item alone",
        )
