"""How a value over a vector follows from others, one rule per family of operators.

A rule takes the walk, the node and the operator's arguments, its tensors as values or constants.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from toolkit.capture.causal.lane import Refusal
from toolkit.capture.causal.program import shape_of
from toolkit.capture.causal.rules.layout import VIEWS
from toolkit.capture.causal.rules.pointwise import POINTWISE, dropout, overload, same
from toolkit.capture.causal.triangular.values import (
    Atoms,
    Floats,
    Function,
    Ints,
    Running,
    Shape,
    Sums,
    Table,
    Value,
)

aten = torch.ops.aten
# Entries that are not zero in the weights of one value.
MOST = 100_000_000


class Rules:
    """Values of one walk: a function becomes atoms where a sum reads it, and only once."""

    def __init__(self) -> None:
        self.made: dict[int, tuple[Value, Sums]] = {}
        self.aliases: dict[int, Function] = {}

    def sums(self, value: Value) -> Sums:
        """Return a value as sums, of atoms that it makes itself where it is a function."""
        if isinstance(value, Sums):
            return value
        if id(value) not in self.made:
            self.made[id(value)] = (value, self._sums(value))
        return self.made[id(value)][1]

    def _sums(self, value: Function | Running) -> Sums:
        if isinstance(value, Function) and value.target in LINEAR:
            found = LINEAR[value.target](self, value.node, *value.args, **value.kwargs)
            if isinstance(found, Sums):
                return found
        function = value if isinstance(value, Function) else _alias(value)
        size = math.prod(value.shape)
        identity = sparse.identity(size, format="csr")
        return Sums(value.node, value.shape, {Atoms(size, function): identity}, np.zeros(size))

    def held(self, value: Sums) -> Sums:
        """Return sums as atoms of their own."""
        if id(value) not in self.aliases:
            self.aliases[id(value)] = _alias(value)
        return self.sums(self.aliases[id(value)])

    def apply(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        """Return what a node gives.

        Raises:
            Refusal: No rule follows the operator, or what it does.
        """
        target: Any = node.target
        leaves = pytree.tree_leaves((args, kwargs))
        if not any(isinstance(leaf, Value) for leaf in leaves) and target is not operator.getitem:
            return target(*args, **kwargs)
        if target in RULES:
            return RULES[target](self, node, *args, **kwargs)
        raise Refusal(node, "no sum of weighted numbers, and no function of every entry alone")


def _alias(value: Sums | Running) -> Function:
    return Function(value.node, value.shape, aten.alias.default, (value,), {})


def rearranged(rules: Rules, node: fx.Node, *args: Any, **kwargs: Any) -> Any:
    """Follow where an operator that only moves entries puts them, by moving their numbers."""
    target: Any = node.target
    values = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Value)]
    sizes = [math.prod(value.shape) for value in values]
    starts = [0, *np.cumsum(sizes).tolist()]
    first = {id(value): start for value, start in zip(values, starts[:-1], strict=True)}

    def run(*, numbered: bool) -> Any:
        def fill(leaf: Any) -> Any:
            if not isinstance(leaf, Value):
                return leaf
            size = math.prod(leaf.shape)
            numbers = torch.arange(1, size + 1, dtype=torch.float64) + first[id(leaf)]
            return (numbers if numbered else torch.zeros_like(numbers)).reshape(leaf.shape)

        given, named = pytree.tree_map(fill, (args, kwargs))
        return target(*given, **named)

    numbers, constants = run(numbered=True), run(numbered=False)
    if isinstance(numbers, tuple | list):
        return [
            _moved(rules, node, values, one, other)
            for one, other in zip(numbers, constants, strict=True)
        ]
    return _moved(rules, node, values, numbers, constants)


def _moved(
    rules: Rules, node: fx.Node, values: Sequence[Value], numbers: Tensor, constants: Tensor
) -> Value:
    places: Ints = (numbers - constants).flatten().long().numpy() - 1
    constant: Floats = constants.flatten().numpy().astype(float)
    shape = tuple(numbers.shape)
    if len(values) == 1:
        (value,) = values
        if isinstance(value, Function):
            if (places >= 0).all():
                return value.select(node, shape, places)
            value = rules.sums(value)
        return value.select(node, shape, places).shifted(node, constant)
    start, parts = 0, []
    for value in values:
        size = math.prod(value.shape)
        own = np.where((places >= start) & (places < start + size), places - start, -1)
        parts.append(rules.sums(value).select(node, shape, own))
        start += size
    first, *others = parts
    total = first.shifted(node, constant)
    for part in others:
        total = total.plus(total.node, part)
    return total


def pointwise(rules: Rules, node: fx.Node, *args: Any, **kwargs: Any) -> Value:
    """Apply an operator to every entry alone."""
    shape = shape_of(node)

    def spread(leaf: Any) -> Any:
        if isinstance(leaf, Value):
            same = leaf.shape == shape
            return leaf if same else leaf.select(node, shape, _places(leaf.shape, shape))
        if isinstance(leaf, Tensor):
            return Table(leaf.expand(shape).flatten().numpy()) if leaf.ndim else leaf.item()
        return leaf

    args, kwargs = pytree.tree_map(spread, (args, kwargs))
    operands = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Value)]
    rule = LINEAR.get(node.target)
    if rule is not None and not any(isinstance(item, Function) for item in operands):
        found: Value | None = rule(rules, node, *args, **kwargs)
        if found is not None:
            return found
    return Function(node, shape, node.target, args, kwargs)  # type: ignore[arg-type]


def _places(old: Shape, new: Shape) -> Ints:
    """Return which entry of the old shape each entry of a broadcast one is."""
    numbers = torch.arange(math.prod(old)).reshape(old).expand(new)
    places: Ints = numbers.flatten().numpy()
    return places


def _constant(leaf: Any) -> Any:
    """Return a constant operand as numbers; `None` for a value."""
    if isinstance(leaf, Table):
        return leaf.values.astype(float)
    return None if isinstance(leaf, Value) else float(leaf)


def add(rules: Rules, node: fx.Node, one: Any, other: Any, *, alpha: Any = 1) -> Value | None:
    """Add two values, or a value and a constant."""
    left, right = _constant(one), _constant(other)
    if left is not None:
        one, other, alpha, right, factor = other, one, 1, left, float(alpha)
        if factor != 1:
            one = scale(rules, node, one, factor)
            if one is None:
                return None
    if right is not None:
        constant = np.broadcast_to(right * alpha, (math.prod(one.shape),))
        return (rules.sums(one) if isinstance(one, Function) else one).shifted(node, constant)
    if isinstance(one, Running) or isinstance(other, Running):
        return None
    second = rules.sums(other)
    if alpha != 1:
        second = second.scaled(node, np.full(math.prod(one.shape), float(alpha)))
    return rules.sums(one).plus(node, second)


def subtract(rules: Rules, node: fx.Node, one: Any, other: Any, *, alpha: Any = 1) -> Value | None:
    """Subtract."""
    return add(rules, node, one, other, alpha=-alpha)


def subtract_from(
    rules: Rules, node: fx.Node, one: Any, other: Any, alpha: Any = 1
) -> Value | None:
    """Subtract the first from the second."""
    return add(rules, node, other, one, alpha=-alpha)


def scale(rules: Rules, node: fx.Node, one: Any, other: Any) -> Value | None:
    """Multiply a value by a constant."""
    left, right = _constant(one), _constant(other)
    value, factors = (other, left) if right is None else (one, right)
    if factors is None or isinstance(value, Running):
        return None
    return rules.sums(value).scaled(node, np.broadcast_to(factors, (math.prod(value.shape),)))


def divide(rules: Rules, node: fx.Node, one: Any, other: Any) -> Value | None:
    """Divide a value by a constant."""
    factors = _constant(other)
    return None if factors is None else scale(rules, node, one, Table(np.atleast_1d(1 / factors)))


def negate(rules: Rules, node: fx.Node, one: Any) -> Value | None:
    """Change the sign."""
    return scale(rules, node, one, -1.0)


def linear(rules: Rules, node: fx.Node, x: Any, weight: Any, bias: Any = None) -> Sums:
    """Multiply the last axis by a constant matrix."""
    if not isinstance(weight, Tensor) or isinstance(bias, Value):
        raise Refusal(node, "the weight depends on the input")
    return _product(rules, node, x, weight, bias)


def by_matrix(rules: Rules, node: fx.Node, x: Any, matrix: Any) -> Sums:
    """Multiply by a constant matrix from the right."""
    if not isinstance(matrix, Tensor) or matrix.ndim > 2:
        raise Refusal(node, "a product of two values that depend on the input")
    return _product(rules, node, x, matrix.T if matrix.ndim == 2 else matrix.unsqueeze(0), None)


def addmm(rules: Rules, node: fx.Node, bias: Any, x: Any, matrix: Any) -> Sums:
    """Multiply by a constant matrix and add a constant."""
    if not isinstance(bias, Tensor):
        raise Refusal(node, "adds a value that depends on the input")
    total = by_matrix(rules, node, x, matrix)
    return total.shifted(node, bias.expand(shape_of(node)).flatten().numpy())


def _product(rules: Rules, node: fx.Node, x: Value, weight: Tensor, bias: Any) -> Sums:
    rows = math.prod(x.shape[:-1])
    matrix = sparse.csr_matrix(weight.numpy())
    every = sparse.kron(sparse.identity(rows), matrix, format="csr") if rows > 1 else matrix
    _check_size(node, every.nnz)
    read = rules.sums(x)
    total = read.mapped(node, shape_of(node), every)
    if len(read.matrices) > 1 and _weights(total) > _weights(read) + every.nnz:
        # The sums themselves as atoms: less to multiply than with everything that they are of.
        total = rules.held(read).mapped(node, shape_of(node), every)
    _check_size(node, _weights(total))
    if bias is None:
        return total
    return total.shifted(node, bias.expand(shape_of(node)).flatten().numpy())


def _weights(value: Sums) -> int:
    return sum(int(matrix.nnz) for matrix in value.matrices.values())


def _check_size(node: fx.Node, count: int) -> None:
    if count > MOST:
        raise Refusal(node, f"{count} weights of sums, more than {MOST}")


def total(rules: Rules, node: fx.Node, x: Value, dims: Any = None, *_: Any, **__: Any) -> Sums:
    """Sum, or take the mean, over axes."""
    axes = [dims] if isinstance(dims, int) else list(dims or range(len(x.shape)))
    kept = torch.arange(math.prod(x.shape)).reshape(x.shape)
    sizes = [
        size if axis not in {d % len(x.shape) for d in axes} else 1
        for axis, size in enumerate(x.shape)
    ]
    owner = torch.arange(math.prod(sizes)).reshape(sizes).expand(x.shape).flatten()
    count = kept.numel() // math.prod(sizes)
    weight = 1 / count if node.target in (aten.mean.dim, aten.mean.default) else 1.0
    matrix = sparse.csr_matrix(
        (np.full(kept.numel(), weight), (owner.numpy(), kept.flatten().numpy())),
        shape=(math.prod(sizes), kept.numel()),
    )
    return rules.sums(x).mapped(node, shape_of(node), matrix)


def cumsum(rules: Rules, node: fx.Node, x: Value, dim: int, **_: Any) -> Running:
    """Sum along an axis, every entry as far as itself."""
    terms = rules.sums(x)
    dim %= len(x.shape)
    size = math.prod(x.shape)
    sizes = [1 if axis == dim else n for axis, n in enumerate(x.shape)]
    slots = torch.arange(math.prod(sizes)).reshape(sizes).expand(x.shape).flatten().numpy()
    axis = [x.shape[dim] if a == dim else 1 for a in range(len(x.shape))]
    places = torch.arange(x.shape[dim]).reshape(axis).expand(x.shape).flatten().numpy()
    constant = torch.from_numpy(terms.constant).reshape(x.shape).cumsum(dim).flatten().numpy()
    if not size:
        raise Refusal(node, "an empty running sum")
    return Running(node, x.shape, terms, slots, places, slots, places, constant)


def blank(rules: Rules, node: fx.Node, x: Value, *args: Any, **kwargs: Any) -> Tensor:
    """Return the constants that an operator makes of a shape."""
    del rules
    target: Any = node.target
    made: Tensor = target(torch.zeros(x.shape), *args, **kwargs)
    return made


def getitem(rules: Rules, node: fx.Node, x: Any, index: int) -> Any:
    """Pick one of several results."""
    del rules, node
    return x[index]


LINEAR: dict[Any, Callable[..., Any]] = {
    aten.add.Tensor: add,
    aten.add.Scalar: add,
    aten.sub.Tensor: subtract,
    aten.sub.Scalar: subtract,
    aten.rsub.Scalar: subtract_from,
    aten.mul.Tensor: scale,
    aten.mul.Scalar: scale,
    aten.div.Tensor: divide,
    aten.div.Scalar: divide,
    aten.true_divide.Tensor: divide,
    aten.neg.default: negate,
}
MOVES = """
permute transpose.int t numpy_T mT movedim.int movedim.intlist moveaxis.int swapaxes swapdims
unsqueeze squeeze squeeze.dim squeeze.dims select.int slice.Tensor narrow expand expand_as cat stack
hstack pad constant_pad_nd flip roll index_select index.Tensor split.Tensor split_with_sizes
chunk unbind.int tril triu repeat repeat_interleave.self_int view_as tile broadcast_to
"""
BLANKS = "zeros_like ones_like full_like new_zeros new_ones new_full"
COPIES = """
alias clone contiguous detach lift_fresh_copy _to_copy to.dtype to.dtype_layout to.device type_as
"""
RULES: dict[Any, Callable[..., Any]] = {
    **{overload(name): pointwise for name in POINTWISE.split()},
    **{overload(name): rearranged for name in MOVES.split()},
    **dict.fromkeys(VIEWS, rearranged),
    **{overload(name): same for name in COPIES.split()},
    **{overload(name): dropout for name in ("dropout", "feature_dropout", "alpha_dropout")},
    aten.linear.default: linear,
    aten.matmul.default: by_matrix,
    aten.mm.default: by_matrix,
    aten.addmm.default: addmm,
    aten.sum.default: total,
    aten.sum.dim_IntList: total,
    aten.mean.default: total,
    aten.mean.dim: total,
    aten.cumsum.default: cumsum,
    **{overload(name): blank for name in BLANKS.split()},
    operator.getitem: getitem,
}
