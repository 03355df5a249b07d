"""Networks over a vector whose output i reads inputs before i, as steps that add to sums.

A masked linear layer is a triangular matrix once units are sorted by the last input that they
read. So a network of such layers is evaluated like a triangular system: as soon as an input is
known, its weights are added to the sums of all units that read it, and those units are finished
that have no more to come. All steps together do the work of one whole pass.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, fx, nn

from toolkit.capture.causal.derive import resized
from toolkit.capture.causal.network import Network
from toolkit.capture.causal.program import Program, capture, double_by_default, shape_of
from toolkit.capture.causal.triangular.layout import Layout, Place, Port, lay_out
from toolkit.capture.causal.triangular.rules import Rules
from toolkit.capture.causal.triangular.values import Atoms, Ints, Sums, Value
from toolkit.core.entry import Autoregressive
from toolkit.core.errors import ExportError


def triangular(model: nn.Module, sampler: Autoregressive) -> tuple[Layout, Layout]:
    """Return the steps of a network over a vector.

    Arguments:
        model: The model in evaluation mode; it is left as it is.
        sampler: What is sampled, and how the network is called.

    Returns:
        The steps that give logits, `levels` a step, and of two levels those that give the
        difference of the second from the first; of more the same once again.

    Raises:
        Refusal: An operator is outside the class, or an output reads its own or a later input.
    """
    network = Network(model, sampler).eval()
    program = capture(network, [resized(sampler.input, 1)])
    (axis,) = sampler.position_axes
    source, output = _walked(program)
    times = _positions(shape_of(program.inputs[0]), axis) + 1
    steps = shape_of(program.inputs[0])[axis]
    logits = lay_out(source, times, steps, output)
    if sampler.levels != 2:
        return logits, logits
    signs = sparse.kron(sparse.identity(steps), [[-1.0, 1.0]], format="csr")
    difference = output.mapped(output.node, (1, steps, 1), signs)
    return logits, lay_out(source, times, steps, difference)


def _walked(program: Program) -> tuple[Atoms, Sums]:
    """Return the input's atoms and the output as sums."""
    (given,) = program.inputs
    shape = shape_of(given)
    size = math.prod(shape)
    rules, source = Rules(), Atoms(math.prod(shape))
    identity = sparse.identity(size, format="csr")
    values: dict[fx.Node, Any] = {given: Sums(given, shape, {source: identity}, np.zeros(size))}
    with double_by_default(), torch.no_grad():
        for node in program.nodes:
            args, kwargs = fx.node.map_arg(
                (node.args, node.kwargs), lambda item: values.get(item, program.const.get(item))
            )
            values[node] = rules.apply(node, args, kwargs)
        output = values[program.outputs[0]]
    if not isinstance(output, Value):
        raise ExportError(
            "the logits do not depend on the input",
            where=str(program.outputs[0]),
            next_step="sample each position alone",
        )
    return source, rules.sums(output)


def _positions(shape: Sequence[int], axis: int) -> Ints:
    """Return the position of each number of the input."""
    sizes = [shape[axis] if a == axis else 1 for a in range(len(shape))]
    places: Ints = torch.arange(shape[axis]).reshape(sizes).expand(*shape).flatten().numpy()
    return places


class TriangularStep(nn.Module):
    """One step over a vector: what is read before its input, and the sums with it added.

    Arguments:
        layout: The steps.
        dtype: Element type to compute in.
    """

    def __init__(self, layout: Layout, dtype: torch.dtype) -> None:
        super().__init__()
        self.layout = layout
        self.names = tuple(f"table_{number}" for number in range(len(layout.tables)))
        for name, value in zip(self.names, layout.tables, strict=True):
            own = value.to(dtype) if value.is_floating_point() else value.clone()
            self.register_buffer(name, own)
        for number, value in enumerate(layout.initial):
            self.register_buffer(f"initial_{number}", value.to(dtype).clone())
        self.register_buffer("constant", layout.constant.to(dtype))
        self.remembers = any(0 in dict(port.here) for port in layout.ports)

    def tables(self) -> list[Tensor]:
        """Return what has an entry per step."""
        return [self.get_buffer(name) for name in self.names]

    def first(self, batch: Any) -> list[Tensor]:
        """Return the sums before the first step, and the newest input where steps read it."""
        starts = [
            self.get_buffer(f"initial_{number}").expand(batch, -1).clone()
            for number in range(len(self.layout.initial))
        ]
        width = self.layout.blocks[0].width
        newest = [self.get_buffer("constant").new_zeros(batch, width)] if self.remembers else []
        return [*starts, *newest]

    def read(
        self, batch: Any, states: Sequence[Tensor], tables: Sequence[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the result of a step without its constant, `(batch, width)`, and the sums.

        Arguments:
            batch: The batch, an integer or a symbolic one.
            states: The sums, then the newest input where steps read it.
            tables: The step's entries.
        """
        constant = self.get_buffer("constant")
        run = _Run(self.layout, batch, list(states), tables, constant.dtype)
        result = run.port(self.layout.ports[self.layout.output])
        return result, run.states

    def add(self, x: Tensor, states: Sequence[Tensor], tables: Sequence[Tensor]) -> list[Tensor]:
        """Return the states with a step's input added, `(batch, numbers of a position)`."""
        following = list(states)
        for state, table in self.layout.blocks[0].adds:
            following[state] = torch.addmm(following[state], x, tables[table])
        if self.remembers:
            following[-1] = x.clone()
        return following


class _Run:
    """One step while it runs: blocks in order, each added to the sums that read it."""

    def __init__(
        self,
        layout: Layout,
        batch: Any,
        states: list[Tensor],
        tables: Sequence[Tensor],
        dtype: torch.dtype,
    ) -> None:
        self.layout, self.batch, self.states, self.tables = layout, batch, states, tables
        self.dtype = dtype
        self.made: dict[int, Tensor] = {0: states[-1]} if states else {}
        for number, block in enumerate(layout.blocks):
            if number and block.function is not None:
                self._make(number)

    def _make(self, number: int) -> None:
        block = self.layout.blocks[number]
        memo: dict[int, Any] = {}
        value = self._value(block.function, memo).to(self.dtype)
        self.made[number] = value
        for state, table in block.adds:
            self.states[state] = torch.addmm(self.states[state], value, self.tables[table])

    def _value(self, tree: Any, memo: dict[int, Any]) -> Any:
        if isinstance(tree, Place):
            return (
                self.tables[tree.number]
                if tree.kind == "table"
                else self.port(self.layout.ports[tree.number])
            )
        if id(tree) not in memo:
            memo[id(tree)] = self._called(tree, memo)
        return memo[id(tree)]

    def _called(self, tree: Any, memo: dict[int, Any]) -> Any:
        target, args, kwargs = tree
        given = [self._argument(item, memo) for item in args]
        return target(*given, **{name: self._argument(v, memo) for name, v in kwargs.items()})

    def _argument(self, item: Any, memo: dict[int, Any]) -> Any:
        call = isinstance(item, tuple) and item and callable(item[0])
        return self._value(item, memo) if call or isinstance(item, Place) else item

    def port(self, port: Port) -> Tensor:
        """Return what a port reads."""
        bias = None if port.bias < 0 else self.tables[port.bias].unsqueeze(0)
        total = bias
        if port.state >= 0:
            held = self.states[port.state]
            if port.index >= 0:
                held = held.index_select(1, self.tables[port.index])
            total = held if total is None else total + held
        for number, table in port.here:
            value = self.made[number]
            if table < 0:
                total = value if total is None else total + value
            else:
                total = _product(value, self.tables[table], total)
        if total is None:
            raise ExportError("a step reads nothing", next_step="report the network")
        return total if port.state >= 0 or port.here else total.expand(self.batch, -1)


def _product(value: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return a block times a table's entry, a matrix or one column as a row, with a bias."""
    if weight.shape[0] == 1 < value.shape[1]:
        # The column as a row from the left: a runtime's product with one column is slow.
        column = (weight @ value.T).T
        return column if bias is None else column + bias
    return value @ weight if bias is None else torch.addmm(bias, value, weight)
