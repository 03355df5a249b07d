"""Columns that are sums: added up where they are read, so that as few products as can be remain.

A step costs by its number of operators. `a + linear(b)` is one product that starts from `a`; the
sum of many products of unlike inputs is one product of all inputs side by side; a constant is
owed until a reader can put it into a bias of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

from toolkit.capture.causal.lane import Column, Once

Product = tuple[Column, Tensor]


@dataclass(frozen=True, eq=False)
class Sum:
    """What a column is: `addends + products + shift`.

    Arguments:
        addends: Columns.
        products: Columns `(..., in)` and matrices `(in, out)`.
        shift: A constant, `(out,)`.
        bare: The column without the shift.
        open: Nobody else reads the column: a reader may take it apart.
    """

    addends: tuple[Column, ...]
    products: tuple[Product, ...]
    shift: Tensor | None
    bare: Once
    open: bool = True

    def narrow(self, start: int, size: int) -> Sum:
        """Return some channels of a sum without addends."""
        products = [(column, w.narrow(1, start, size)) for column, w in self.products]
        shift = None if self.shift is None else self.shift.narrow(0, start, size)
        return replace(_sum((), products, shift), open=self.open)


def summed(
    addends: Sequence[Column], products: Sequence[Product], shift: Tensor | None = None
) -> Once:
    """Return the column that is this sum."""
    terms = _sum(addends, products, shift)
    if shift is None:
        return Once(terms.bare, terms)
    if addends:
        return Once(lambda: terms.bare() + shift, terms)
    return Once(lambda: _multiplied(products, shift), terms)


def joined(columns: Sequence[Column], shift: Tensor | None = None) -> Once | None:
    """Return the sum of columns, taken apart where nobody else reads them.

    Nothing where no column is a sum.

    Arguments:
        columns: Of one shape.
        shift: A constant to add.
    """
    addends: list[Column] = []
    products: list[Product] = []
    shifts = [] if shift is None else [shift]
    for column in columns:
        terms = terms_of(column)
        if terms is not None and terms.open:
            addends += terms.addends
            products += terms.products
            owed_here = terms.shift
        else:
            bare, owed_here = owed(column)
            addends.append(bare)
        if owed_here is not None:
            shifts.append(owed_here)
    if all(terms_of(column) is None for column in columns):
        return None
    return summed(addends, products, added(shifts))


def owed(column: Column) -> tuple[Column, Tensor | None]:
    """Return a column without the constant that is still to be added, and the constant."""
    terms = terms_of(column)
    if terms is None or not terms.addends:
        return column, None
    return terms.bare, terms.shift


def added(shifts: Sequence[Tensor]) -> Tensor | None:
    """Return the sum of constants."""
    total = None
    for shift in shifts:
        total = shift if total is None else total + shift
    return total


def terms_of(column: Column) -> Sum | None:
    """Return what a column is a sum of, if it is one."""
    return column.terms if isinstance(column, Once) else None


def _sum(addends: Sequence[Column], products: Sequence[Product], shift: Tensor | None) -> Sum:
    def bare() -> Tensor:
        total: Tensor | None = None
        for addend in addends:
            value: Tensor = addend()
            total = value if total is None else total + value
        if not products:
            return cast("Tensor", total)
        if total is None:
            return _multiplied(products, None)
        given, matrix = _side_by_side(products)
        if given.ndim == 2 == total.ndim:
            return torch.addmm(total, given, matrix)
        return total + given @ matrix

    return Sum(tuple(addends), tuple(products), shift, Once(bare))


def _multiplied(products: Sequence[Product], shift: Tensor | None) -> Tensor:
    given, matrix = _side_by_side(products)
    return functional.linear(given, matrix.T, shift)


def _side_by_side(products: Sequence[Product]) -> tuple[Tensor, Tensor]:
    """Return all inputs as one, and their matrices one below the other."""
    given = [column() for column, _ in products]
    if len(given) == 1:
        return given[0], products[0][1]
    return torch.cat(given, -1), torch.cat([matrix for _, matrix in products])
