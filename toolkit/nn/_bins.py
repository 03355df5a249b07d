"""Tables of bins, laid out as `(bins, …)`: what every spline of this folder is made of.

A cumulative sum is then one product with a constant matrix, and the choice of a bin a product with
a mask of ones and zeros: exact in any precision, and refused by no runtime.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def bins_first(x: Tensor, *tables: Tensor) -> tuple[Tensor, ...]:
    """Return the values as `(1, …)` and the tables with their last axis first.

    Where the leading axes agree they become one, so that no broadcast is left.
    """
    if all(table.dim() == x.dim() + 1 and table.shape[:-1] == x.shape for table in tables):
        return x.reshape(1, -1), *(table.reshape(-1, table.shape[-1]).t() for table in tables)
    return x.unsqueeze(0), *(
        table.reshape(*(1,) * (x.dim() + 1 - table.dim()), *table.shape).movedim(-1, 0)
        for table in tables
    )


def exponential(table: Tensor, dim: int) -> Tensor:
    """Return exponentials whose largest along the bins is 1."""
    return torch.exp(table - table.amax(dim, keepdim=True))


def knots_of(
    lengths: Tensor,
    start: tuple[float, float],
    length: tuple[float, float],
    least: tuple[float, float],
) -> Tensor:
    """Return the `bins + 1` knots of both axes; the first ones are exact.

    Arguments:
        lengths: Unnormalised positive lengths, `(2, bins, …)`.
        start: Both axes' first knots.
        length: Lengths of both intervals.
        least: Smallest lengths of a bin, as shares of the interval.
    """
    bins, dims = lengths.shape[1], lengths.dim()
    sums = product(summing(bins, lengths), lengths, 1)
    free = [extent * (1 - bins * least) for extent, least in zip(length, least, strict=True)]
    offsets = [
        [begin + extent * least * step for step in range(bins + 1)]
        for begin, extent, least in zip(start, length, least, strict=True)
    ]
    share = constant(free, lengths).reshape(2, *(1,) * (dims - 1)) / sums[:, -1:]
    return sums * share + constant(offsets, lengths).reshape(2, bins + 1, *(1,) * (dims - 2))


def choose_ends(knots: Tensor, reached: Tensor) -> Tensor:
    """Return each quantity at both ends of the bin that a value lies in, `(2 · quantities, …)`.

    Arguments:
        knots: `(quantities, bins + 1, …)`.
        reached: 1 where the value lies behind a bin's first knot, else 0; `(bins, …)`.
    """
    bins = reached.shape[0]
    once = differences(bins, reached)
    both = torch.cat([F.pad(once, (0, 0, 0, 1)), F.pad(once, (0, 0, 1, 0))])
    mask = product(both, reached, 0)
    mask = mask.reshape(2, bins + 1, *mask.shape[1:])
    return (mask * knots.unsqueeze(1)).sum(2).flatten(0, 1)


def with_tails(
    x: Tensor, values: Tensor, inside: Tensor, result: Tensor, log_det: Tensor, tails: str
) -> tuple[Tensor, Tensor]:
    """Return the results in the shape of the values, the identity outside of the interval."""
    if tails != "none":
        same = values == inside
        result = torch.where(same, result, values)
        log_det = torch.where(same, log_det, 0.0)
    if values.dim() == x.dim() + 1:
        return result.squeeze(0), log_det.squeeze(0)
    shape = (-1, *x.shape[1:]) if x.dim() else ()
    return result.reshape(shape), log_det.reshape(shape)


def product(matrix: Tensor, table: Tensor, dim: int) -> Tensor:
    """Return the product with a constant matrix along axis `dim`, 0 or 1."""
    if table.dim() == dim + 2:
        return matrix @ table
    product = matrix @ table.flatten(dim + 1)
    return product.reshape(*product.shape[:-1], *table.shape[dim + 1 :])


def summing(bins: int, like: Tensor, *, strict: bool = False) -> Tensor:
    """Return the matrix that sums the bins before each knot: the first is 0."""
    rows = range(bins if strict else bins + 1)
    return constant([[float(step < row) for step in range(bins)] for row in rows], like)


def differences(bins: int, like: Tensor) -> Tensor:
    """Return the matrix that takes steps reached to the one bin that the value lies in."""
    return constant(
        [
            [float(step == row) - float(step == row + 1) for step in range(bins)]
            for row in range(bins)
        ],
        like,
    )


def column(numbers: Sequence[float], like: Tensor, dims: int) -> Tensor:
    """Return one number per bin, of `dims` axes."""
    return constant(list(numbers), like).reshape(-1, *(1,) * (dims - 1))


def clamp(values: Tensor, low: float, high: float) -> Tensor:
    """Return the values, those outside of the interval taken to its nearest end."""
    return torch.clamp(values, constant(low, values), constant(high, values))


def constant(numbers: float | list[float] | list[list[float]], like: Tensor) -> Tensor:
    """Return numbers in the type and on the device of a tensor.

    An exporter may write a bare number in 32 bits, whatever the tensor's type.
    """
    return torch.tensor(numbers, dtype=like.dtype, device=like.device)
