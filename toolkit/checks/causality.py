"""Does output i of an autoregressive graph ignore every input that it must not see?"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from toolkit.checks import _draw
from toolkit.checks._judge import finding, own_cases
from toolkit.checks._sampler import sampler_of
from toolkit.core.case import Case
from toolkit.core.entry import Autoregressive, Input
from toolkit.core.outcome import Finding
from toolkit.core.protocols import Source, Subject

if TYPE_CHECKING:
    import torch
    from torch import Tensor

NAME = "causality"
POSITIONS = 24


class Causality:
    """Perturb the inputs from a position on; the outputs up to it must keep every bit.

    Logits at i may see inputs before i (`predicts="this"`) or up to i (`"next"`); a sampler's
    index i may see noise up to i.
    """

    def prepare(self, source: Source) -> Sequence[Case]:
        """Make the case `perturbed`: row 0 is plain, row j is changed from one position on.

        `extra["protected"]` marks, per changed row, the output elements that must not move.
        """
        declared = sampler_of(source)
        steps = declared is not None and source.entry.name == declared.parts[1]
        if declared is None or steps:
            return []
        item = source.entry.inputs[0]
        sampler = source.entry.name == declared.parts[0]
        axes = (0,) if sampler else declared.position_axes
        sizes = [item.shape[axis] for axis in axes]
        chosen = np.unique(np.linspace(0, math.prod(sizes) - 1, POSITIONS).astype(int))
        first = chosen + (0 if declared.predicts == "this" and not sampler else 1)
        base = _draw.real(source, 1)
        inputs = {
            other.name: _undrawn(declared, other, base[other.name]).repeat_interleave(
                1 + len(first), other.batch_axis
            )
            for other in source.entry.inputs
        }
        inputs[item.name] = _perturbed(source, item, axes, first)
        case = source.answer(NAME, "perturbed", inputs)
        output = next(iter(case.oracle.values()))
        shown = _shown(declared, output.ndim, sampler=sampler)
        protected = _protected(output, shown, chosen, math.prod(sizes))
        return [dataclasses.replace(case, extra={"protected": protected})]

    def judge(self, subject: Subject) -> Finding | None:
        """Answer with the number of protected output elements that moved."""
        case = next(iter(own_cases(subject, NAME)), None)
        if case is None:
            return None
        output = subject.run(case.inputs)[subject.signature.outputs[0].name]
        moved, protected = output[1:] != output[:1], case.extra["protected"].astype(bool)
        leaks, seen = int((moved & protected).sum()), int((moved & ~protected).sum())
        return finding(
            NAME,
            subject,
            "ok" if not leaks and seen else "failed",
            value=float(leaks),
            limit=0.0,
            unit="elements",
            reason=f"{leaks} of {int(protected.sum())} protected elements moved, "
            f"{seen} of {int((~protected).sum())} free ones did",
        )


def _undrawn(declared: Autoregressive, item: Input, base: Tensor) -> Tensor:
    """Return a sampler's other input; of a given beginning an empty one, which moves nothing."""
    import torch

    if not declared.prefix or item.name != "prefix":
        return base
    return torch.full_like(base, torch.nan if base.is_floating_point() else int(item.low or 0))


def _shown(declared: Autoregressive, rank: int, *, sampler: bool) -> tuple[int, ...]:
    """Return the axes of an output of some rank that hold positions."""
    axes = declared.position_axes
    if sampler:
        return axes if declared.like_input else tuple(range(1, 1 + len(axes)))
    others = [axis for axis in range(1, rank) if axis != declared.levels_axis % rank]
    return tuple(others[-len(axes) :])


def _perturbed(source: Source, item: Input, axes: tuple[int, ...], first: np.ndarray) -> Tensor:
    """Return one plain row and, per position in `first`, one changed from there on."""
    import torch

    draws = _draw.generator(source, 7)
    base = _draw.real(source, 1)[item.name]
    changed = _other(base, item, draws)
    sizes = [base.shape[axis] for axis in axes]
    order = torch.arange(math.prod(sizes)).reshape(
        [base.shape[axis] if axis in axes else 1 for axis in range(base.ndim)]
    )
    rows = [base, *(torch.where(order >= int(start), changed, base) for start in first)]
    return torch.cat(rows, dim=item.batch_axis)


def _other(base: Tensor, item: Input, draws: torch.Generator) -> Tensor:
    """Return a tensor that differs from `base` in every element."""
    import torch

    if item.kind == "noise":
        # A shift of all categories alike would change no choice.
        return _draw.like(item, base.shape[item.batch_axis], draws)
    if base.is_floating_point():
        moved = base + base.std() * (0.5 + torch.rand(base.shape, generator=draws))
        return _draw.within(item, moved)
    low, high = int(item.low or 0), int(item.high or 1)
    return (base - low + 1) % (high - low + 1) + low


def _protected(
    output: np.ndarray, axes: tuple[int, ...], chosen: np.ndarray, count: int
) -> np.ndarray:
    """Return, per changed row, which output elements are at or before its position.

    An output of one position speaks of the last of all `count`.
    """
    shape = [output.shape[axis] if axis in axes else 1 for axis in range(1, output.ndim)]
    order = np.arange(count)[-math.prod(shape) :].reshape(1, *shape)
    marks = order <= chosen.reshape(-1, *([1] * len(shape)))
    return np.broadcast_to(marks, (len(chosen), *output.shape[1:])).copy()


check = Causality()
