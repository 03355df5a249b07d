"""Does the variant give the oracle's answers, on real data, noise, tails and edges?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from toolkit.checks import _draw
from toolkit.checks._judge import compare_case, own_cases, worst_finding
from toolkit.core.case import Case
from toolkit.core.outcome import Finding
from toolkit.core.protocols import Source, Subject

if TYPE_CHECKING:
    from torch import Tensor

NAME = "parity"
NEAR_TIE = 1e-5
BUDGETED = ("real",)


class Parity:
    """Compare every output with the oracle, in the unit of its budget or by the formula."""

    def prepare(self, source: Source) -> Sequence[Case]:
        """Make the cases `real`, `noise`, `tails` and `edges`.

        Where outputs are integers, samples that a change of the input by `NEAR_TIE` flips are
        left out: no float32 arithmetic can promise those. So are tails and edges where eager
        overflows.
        """
        count = source.samples
        drawn = {
            "real": _draw.real(source, count),
            "noise": _draw.noise(source, count),
            "tails": _draw.tails(source, min(count, 128)),
            "edges": _draw.edges(source, min(count, 128)),
        }
        integers = any("int" in spec.dtype for spec in source.signature.outputs)
        cases = []
        for name, inputs in drawn.items():
            kept = _decided(source, inputs) if integers else inputs
            if name in ("tails", "edges"):
                kept = _representable(source, kept)
            if source.signature.samples(kept):
                cases.append(source.answer(NAME, name, kept))
        return cases

    def judge(self, subject: Subject) -> Finding:
        """Answer with the output and case that come closest to, or furthest over, their limit.

        A budget speaks of inputs like the data; without one the formula holds on every case.
        """
        asked = BUDGETED if subject.budget else ("real", "noise", "tails", "edges")
        rows = []
        for case in own_cases(subject, NAME):
            if case.name in asked:
                rows += compare_case(subject, case)
        return worst_finding(NAME, subject, rows)


def _decided(source: Source, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Keep the samples whose integers do not change when the inputs move by `NEAR_TIE`."""
    import torch

    draws = _draw.generator(source, 5)
    plain = source.answer(NAME, "plain", inputs)
    moved = {
        name: value + NEAR_TIE * torch.randn(value.shape, generator=draws)
        if value.is_floating_point()
        else value
        for name, value in inputs.items()
    }
    shaken = source.answer(NAME, "moved", moved)
    same = [
        _by_sample(torch.from_numpy(plain.oracle[spec.name] == other), spec.batch_axis).all(1)
        for spec in source.signature.outputs
        if "int" in spec.dtype
        for other in (plain.eager[spec.name], shaken.oracle[spec.name])
    ]
    return _marked(source, inputs, torch.stack(same).all(0))


def _representable(source: Source, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Keep the samples on which eager, in its own precision, gives finite numbers."""
    import torch

    if not source.signature.samples(inputs):
        return inputs
    answers = source.eager(source.entry, [inputs[item.name] for item in source.entry.inputs])
    finite = [
        _by_sample(torch.isfinite(value), spec.batch_axis).all(1).cpu()
        for spec, value in zip(source.signature.outputs, answers, strict=True)
        if value.is_floating_point() and value.dim()
    ]
    return _marked(source, inputs, torch.stack(finite).all(0)) if finite else inputs


def _by_sample(value: Tensor, axis: int) -> Tensor:
    """Return a tensor's elements sample by sample, `(samples, elements)`."""
    return value.movedim(axis, 0).reshape(value.shape[axis], -1)


def _marked(source: Source, inputs: dict[str, Tensor], keep: Tensor) -> dict[str, Tensor]:
    """Return the samples that are marked."""
    return inputs if bool(keep.all()) else _draw.chosen(source, inputs, keep.nonzero().flatten())


check = Parity()
