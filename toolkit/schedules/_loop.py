"""One loop over positions: a scan in a captured graph, a plain loop in eager."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._higher_order_ops.scan import scan_op
from torch.nn import functional

Step = Callable[[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]], tuple[Any, Any]]


def scanned(
    step: Step, states: Sequence[Tensor], inputs: Sequence[Tensor], fixed: Sequence[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """Run `step` once per entry of the inputs' first axis.

    Arguments:
        step: `(states, inputs of one step, fixed) -> (states, results)`; its results are tensors
            of their own, none of them an argument.
        states: The first states.
        inputs: One entry a step along the first axis.
        fixed: What every step reads whole, weights above all.

    Returns:
        The last states, and every result stacked along a new first axis.
    """
    carried = list(states) or [inputs[0].new_zeros(1)]
    count = len(carried)

    def flat(*given: Tensor) -> list[Tensor]:
        here = given[count : count + len(inputs)]
        following, results = step(given[: len(states)], here, given[count + len(inputs) :])
        kept = list(following) if states else [given[0].clone()]
        return [*kept, *results]

    if torch.compiler.is_exporting():
        everything = list(scan_op(flat, carried, list(inputs), tuple(fixed)))
        return everything[: len(states)], everything[count:]
    stacked: list[list[Tensor]] = []
    for entries in zip(*inputs, strict=True):
        results = flat(*carried, *entries, *fixed)
        carried = results[:count]
        stacked.append(results[count:])
    columns = [torch.stack(column) for column in zip(*stacked, strict=True)]
    return carried[: len(states)], columns


def by_chunk(value: Tensor, count: Any, size: int, length: int) -> Tensor:
    """Return the first `count` chunks of a sequence, `(count, size, …)`.

    Arguments:
        value: The sequence, its first axis of any length up to `length`.
        count: How many chunks; a number that may follow the sequence's length.
        size: Positions of a chunk.
        length: The longest sequence in whole chunks.
    """
    missing = length - value.shape[0]
    padded = functional.pad(value, [0, 0] * (value.ndim - 1) + [0, missing])
    chunks = padded.reshape(length // size, size, *value.shape[1:])
    return chunks.index_select(0, torch.arange(count, device=value.device))


def rows_at(value: Tensor, rows: Tensor) -> Tensor:
    """Return rows of a sequence of rows, inside a loop by one operator.

    Arguments:
        value: The sequence, `(rows, …)`.
        rows: Which, `(count,)`.
    """
    # A selection would first make sure that the numbers have one axis.
    return functional.embedding(rows, value) if value.ndim == 2 else value.index_select(0, rows)


def parts(values: Sequence[Tensor], sizes: Sequence[int]) -> list[Sequence[Tensor]]:
    """Return values in pieces of the given sizes, and the rest."""
    pieces, start = [], 0
    for size in sizes:
        pieces.append(values[start : start + size])
        start += size
    return [*pieces, values[start:]]
