"""Einstein sums as products of matrices, with torch's broadcasting.

ONNX Runtime refuses an `Einsum` whose ellipsis stands for a size of one on one side, or for axes
that only one side has, and crashes on some; TensorRT knows no repeated index.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import torch
from onnxscript import opset18 as op

from toolkit.core.protocols import Example

Axes = tuple[str, ...]
ELLIPSIS = "..."


@dataclass(frozen=True, slots=True)
class Term:
    """A tensor whose axes have names; `sizes` holds the static ones."""

    value: Any
    axes: Axes
    sizes: Mapping[str, int]


def einsum(equation: str, tensors: Sequence[Any], path: Sequence[int] | None = None) -> Any:
    """Translate `einsum(str equation, Tensor[] tensors, *, int[]? path=None) -> Tensor`.

    Operands are taken from left to right, whatever the path: the values are the same.
    """
    del path
    left, arrow, right = equation.replace(" ", "").partition("->")
    names = [
        _names(text, len(tensor.shape))
        for text, tensor in zip(left.split(","), tensors, strict=True)
    ]
    wanted = _names(right, -1, names) if arrow else _implied(names)
    terms = [_term(tensor, axes) for tensor, axes in zip(tensors, names, strict=True)]
    total = terms[0]
    for position, term in enumerate(terms[1:], start=2):
        later = chain.from_iterable(item.axes for item in terms[position:])
        total = _product(total, term, {*wanted, *later})
    total = _summed(total, set(wanted))
    return op.Identity(_ordered(total, wanted))


def _names(text: str, rank: int, others: Sequence[Axes] = ()) -> Axes:
    """Return the names of axes; the ellipsis' are numbered from the last."""
    before, dots, after = text.partition(ELLIPSIS)
    if not dots:
        return tuple(before)
    count = rank - len(before) - len(after)
    if rank < 0:
        count = max(sum(name.isdigit() for name in axes) for axes in others)
    return (*before, *(str(number) for number in reversed(range(count))), *after)


def _implied(names: Sequence[Axes]) -> Axes:
    """Return the axes of an equation without an arrow: the ellipsis, then what occurs once."""
    flat = list(chain.from_iterable(names))
    dots = {name for name in flat if name.isdigit()}
    once = sorted(name for name in flat if not name.isdigit() and flat.count(name) == 1)
    return (*sorted(dots, key=int, reverse=True), *once)


def _term(tensor: Any, axes: Axes) -> Term:
    """Return a tensor with named axes; of a repeated one, only the diagonal."""
    sizes = {
        name: size for name, size in zip(axes, tensor.shape, strict=True) if isinstance(size, int)
    }
    kept = tuple(dict.fromkeys(axes))
    if kept != axes:
        # Digits are no index of ONNX, and letters of this tensor may be few.
        letters = {name: chr(ord("a") + position) for position, name in enumerate(kept)}
        equation = "".join(letters[name] for name in axes)
        equation += "->" + "".join(letters[name] for name in kept)
        tensor = op.Einsum(tensor, equation=equation)
    return Term(tensor, kept, sizes)


def _product(one: Term, other: Term, wanted: set[str]) -> Term:
    """Return the product of two terms, summed over what nobody wants any more."""
    one = _summed(one, wanted | set(other.axes))
    other = _summed(other, wanted | set(one.axes))
    shared = [name for name in one.axes if name in other.axes]
    gone = tuple(name for name in shared if name not in wanted)
    sizes = {
        name: max(one.sizes.get(name, 1), other.sizes.get(name, 1))
        for name in {*one.axes, *other.axes}
        if (name in one.sizes or name not in one.axes)
        and (name in other.sizes or name not in other.axes)
    }
    if gone and all(_same(name, one, other) for name in gone):
        return _matrix_product(one, other, tuple(n for n in shared if n in wanted), gone, sizes)
    axes = (*one.axes, *(name for name in other.axes if name not in one.axes))
    value = op.Mul(_ordered(one, axes), _ordered(other, axes))
    return _summed(Term(value, axes, sizes), wanted)


def _same(name: str, one: Term, other: Term) -> bool:
    """Return whether an axis has one size on both sides, and not one that broadcasts."""
    return not name.isdigit() and one.sizes.get(name) == other.sizes.get(name)


def _matrix_product(
    one: Term, other: Term, batch: Axes, gone: Axes, sizes: Mapping[str, int]
) -> Term:
    if any(name.isdigit() for name in other.axes if name not in one.axes):
        # The axes of an ellipsis mostly lead the answer.
        one, other = other, one
    rows = tuple(name for name in one.axes if name not in (*batch, *gone))
    columns = tuple(name for name in other.axes if name not in (*batch, *gone))
    left = _merged(_ordered(one, (*batch, *rows, *gone)), len(batch), len(rows), len(gone))
    right = _merged(_ordered(other, (*batch, *gone, *columns)), len(batch), len(gone), len(columns))
    value = op.MatMul(left, right)
    if len(rows) != 1 or len(columns) != 1:
        lengths = [op.Shape(value, start=n, end=n + 1) for n in range(len(batch))]
        lengths += [*_lengths(one, rows), *_lengths(other, columns)]
        shape = op.Concat(*lengths, axis=0) if lengths else op.Constant(value_ints=[])
        value = op.Reshape(value, shape)
    return Term(value, (*batch, *rows, *columns), sizes)


def _lengths(term: Term, names: Axes) -> list[Any]:
    places = [term.axes.index(name) for name in names]
    return [op.Shape(term.value, start=place, end=place + 1) for place in places]


def _merged(value: Any, batch: int, rows: int, columns: int) -> Any:
    """Make the axes behind the batch one axis of rows and one of columns."""
    if rows == columns == 1:
        return value
    places = range(batch)
    lead = [op.Shape(value, start=place, end=place + 1) for place in places]
    if rows:
        ends = [op.Shape(value, start=batch + n, end=batch + n + 1) for n in range(rows)]
        height = ends[0] if rows == 1 else op.ReduceProd(op.Concat(*ends, axis=0), [0], keepdims=1)
    else:
        height = op.Constant(value_ints=[1])
    last = op.Constant(value_ints=[-1])
    return op.Reshape(value, op.Concat(*lead, height, last, axis=0))


def _ordered(term: Term, axes: Axes) -> Any:
    """Return the value with its axes in this order, and of size one where it has none."""
    own = [name for name in axes if name in term.axes]
    order = [term.axes.index(name) for name in own]
    value = term.value if order == sorted(order) else op.Transpose(term.value, perm=order)
    missing = [place for place, name in enumerate(axes) if name not in term.axes]
    return op.Unsqueeze(value, missing) if missing else value


def _summed(term: Term, wanted: set[str]) -> Term:
    """Sum over the axes that nobody wants."""
    places = [place for place, name in enumerate(term.axes) if name not in wanted]
    if not places:
        return term
    kept = tuple(name for name in term.axes if name in wanted)
    return Term(op.ReduceSum(term.value, places, keepdims=0), kept, term.sizes)


class Einsum:
    """Einstein sums."""

    def __call__(self) -> Mapping[torch._ops.OpOverload, Callable[..., Any]]:
        """Return the table."""
        return {torch.ops.aten.einsum.default: einsum}

    def examples(self) -> Mapping[str, Example]:
        """Return products of one to three tensors, ellipses of every kind, diagonals, sums."""
        draws = torch.Generator().manual_seed(0)

        def make(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=draws, dtype=torch.float64)

        def of(equation: str) -> Callable[..., torch.Tensor]:
            return partial(torch.einsum, equation)

        x, per_feature = make(7, 3, 5), make(3, 4, 5)
        turned = of("...ij,...j->...i")
        return {
            "matrix times rows": Example(turned, (make(4, 5), make(7, 5)), shared=(0,)),
            "matrix times more rows": Example(turned, (make(4, 5), x), shared=(0,)),
            "matrix for each feature": Example(turned, (per_feature, x), shared=(0,)),
            "size one against many": Example(turned, (make(1, 4, 5), x), shared=(0,)),
            "many against size one": Example(turned, (make(7, 1, 4, 5), x)),
            "turned": Example(of("...ij,...i->...j"), (make(4, 5), make(7, 4)), shared=(0,)),
            "rows times matrix": Example(of("...i,ij->...j"), (x, make(5, 2)), shared=(1,)),
            "attention": Example(of("bhid,bhjd->bhij"), (make(2, 3, 4, 5), make(2, 3, 6, 5))),
            "two gone": Example(of("bijk,bjkl->bli"), (make(2, 3, 4, 5), make(2, 4, 5, 6))),
            "all gone": Example(of("bij,bij->b"), (x, make(7, 3, 5))),
            "two free": Example(of("bijk,bkl->bijl"), (make(2, 3, 4, 5), make(2, 5, 6))),
            "outer": Example(of("bi,bj->bij"), (make(3, 4), make(3, 5))),
            "element by element": Example(of("b i, b i -> b i"), (make(3, 4), make(3, 4))),
            "one side summed": Example(of("bik,bj->bij"), (x, make(7, 2))),
            "three, implied": Example(
                of("bi,ij,jk"), (make(7, 4), make(4, 5), make(5, 2)), shared=(0, 1, 2)
            ),
            "trace": Example(of("bii->b"), (make(7, 4, 4),)),
            "diagonal, ellipsis": Example(of("b...ii->b...i"), (make(7, 2, 4, 4),)),
            "turned, implied": Example(of("ba"), (make(3, 4)[:, :3],), shared=(0,)),
            "named size one": Example(of("bij,bj->bi"), (x, make(7, 1))),
            "total": Example(of("bi->"), (make(3, 4),)),
        }


lowering = Einsum()
