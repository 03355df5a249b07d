"""Do the steps of a sampler's `step`, one after the other, give what the whole network gives?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from toolkit.checks import _draw
from toolkit.checks._judge import finding, own_cases
from toolkit.checks._sampler import sampler_of
from toolkit.core.case import Case
from toolkit.core.entry import Autoregressive, Entry
from toolkit.core.outcome import Finding
from toolkit.core.protocols import Source, Subject
from toolkit.runtime.limits import judge

if TYPE_CHECKING:
    from torch import Tensor

NAME = "stepwise"
BATCH = 2
POSITIONS = 24


class Stepwise:
    """Feed a sequence column by column from zero states; the model itself has read it whole."""

    def prepare(self, source: Source) -> Sequence[Case]:
        """Make the case `sequence`: the first column, and zeros for the states.

        `extra` holds every column, the positions that are judged, and the whole network's logits
        there, `(positions, batch, levels)`.
        """
        import torch

        sampler = sampler_of(source)
        if sampler is None or source.entry.name != sampler.parts[1] or sampler.order != "time":
            return []
        draws = _draw.generator(source, 11)
        given = [sampler.input, *sampler.context]
        tensors = [_draw.like(item, BATCH, draws) for item in given]
        whole = Entry(sampler.parts[2], sampler.call, given, ["logits"])
        columns = tensors[0].movedim(sampler.position_axes[0], 0)
        chosen = torch.linspace(0, len(columns) - 1, min(POSITIONS, len(columns))).long()
        known = dict(zip((item.name for item in given), [columns[0], *tensors[1:]], strict=True))
        inputs = {
            item.name: known[item.name]
            if item.name in known
            else torch.zeros(item.batched(BATCH), dtype=getattr(torch, item.dtype))
            for item in source.entry.inputs
        }
        extra = {
            answered: _at_positions(sampler, partial(_first, ask, whole), tensors, chosen)
            for answered, ask in (("oracle", source.exact), ("eager", source.eager))
        }
        return [source.answer(NAME, "sequence", inputs, columns=columns, positions=chosen, **extra)]

    def judge(self, subject: Subject) -> Finding | None:
        """Answer with the largest error over the judged positions."""
        case = next(iter(own_cases(subject, NAME)), None)
        if case is None:
            return None
        if subject.budget:
            reason = "the budget is that of one step; the errors of states add up over many"
            return finding(NAME, subject, "skipped", reason=reason)
        logits = subject.signature.outputs[0]
        good, value, limit, unit = judge(
            _stepped(subject, case),
            case.extra["oracle"],
            case.extra["eager"],
            unit=logits.unit,
            budget={},
            k=subject.k,
        )
        count = len(case.extra["columns"])
        return finding(
            NAME,
            subject,
            "ok" if good else "failed",
            value=value,
            limit=limit,
            unit=unit,
            reason=f"{logits.name} after each of {count} steps against the whole network's, at "
            f"{len(case.extra['positions'])} positions",
        )


def _first(
    ask: Callable[[Entry, Sequence[Tensor]], Sequence[Tensor]],
    whole: Entry,
    tensors: Sequence[Tensor],
) -> Tensor:
    return ask(whole, tensors)[0]


def _at_positions(
    sampler: Autoregressive,
    ask: Callable[[Sequence[Tensor]], Tensor],
    tensors: Sequence[Tensor],
    chosen: Tensor,
) -> Tensor:
    """Return the whole network's logits at some positions, `(positions, batch, levels)`.

    A network that speaks of the last position alone is asked for every prefix.
    """
    import torch

    (along,) = sampler.position_axes
    x, *rest = tensors
    logits = ask(tensors)
    if logits.numel() > len(x) * sampler.levels:
        return _by_position(sampler, logits)[chosen]
    parts = [ask([x.narrow(along, 0, int(last) + 1), *rest]) for last in chosen]
    return torch.stack([part.reshape(len(x), -1) for part in parts])


def _by_position(sampler: Autoregressive, logits: Tensor) -> Tensor:
    """Return the whole network's logits as `(positions, batch, levels)`."""
    return logits.movedim(sampler.levels_axis, -1).flatten(1, -2).movedim(1, 0)


def _stepped(subject: Subject, case: Case) -> np.ndarray:
    """Return the logits at the judged positions, `(positions, batch, levels)`."""
    logits, *after = [spec.name for spec in subject.signature.outputs]
    states = [spec.name for spec in subject.signature.inputs if spec.kind == "state"]
    fed = subject.signature.inputs[0].name
    judged, feeds, found = set(case.extra["positions"].tolist()), dict(case.inputs), []
    for time, column in enumerate(case.extra["columns"]):
        feeds |= {fed: column, "time": np.asarray(time, case.inputs["time"].dtype)}
        results = subject.run(feeds)
        feeds |= {name: results[new] for name, new in zip(states, after, strict=True)}
        if time in judged:
            found.append(results[logits])
    return np.stack(found)


check = Stepwise()
