"""Einstein sums that keep time: its letter is left out of the columns' equation."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import fx

from toolkit.capture.causal.lane import Lane, Refusal
from toolkit.capture.causal.walk import Walk


def einsum(walk: Walk, node: fx.Node, equation: str, operands: Sequence[Any], **_: Any) -> Lane:
    """Contract columns."""
    left, right = equation.replace(" ", "").split("->")
    terms = left.split(",")
    pairs = list(zip(terms, operands, strict=True))
    letters = {term[item.axis] for term, item in pairs if isinstance(item, Lane)}
    if len(letters) != 1 or "." in equation:
        raise Refusal(node, "an Einstein sum over two axes of time")
    (letter,) = letters
    if letter not in right:
        raise Refusal(node, "an Einstein sum that contracts over time")
    if any(letter in term for term, item in pairs if not isinstance(item, Lane)):
        raise Refusal(node, "an Einstein sum with a known sequence")
    lanes = walk.align([item for item in operands if isinstance(item, Lane)])
    if any(lane.prefix is not None for lane in lanes):
        raise Refusal(node, "an Einstein sum over a padded sequence")
    rest = iter(lanes)
    columns = [
        next(rest).column if isinstance(item, Lane) else partial(walk.const, node, item)
        for item in operands
    ]
    inner = equation.replace(" ", "").replace(letter, "")
    return walk.lane(
        node,
        right.index(letter),
        lambda: torch.einsum(inner, *[column() for column in columns]),
        origin=lanes[0].origin,
    )


rules = {torch.ops.aten.einsum.default: einsum}
