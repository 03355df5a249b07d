"""Is a flow's log-determinant that of its Jacobian?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from toolkit.checks import _draw, _flow
from toolkit.checks._judge import finding, own_cases
from toolkit.core.case import Case
from toolkit.core.entry import Entry, Input
from toolkit.core.outcome import Finding
from toolkit.core.protocols import Source, Subject
from toolkit.runtime.limits import absolute, oracle_limit

if TYPE_CHECKING:
    from torch import Tensor

NAME = "log_det"
SAMPLES = 8
LARGEST = 64
STEP = 1e-6
# What central differences of float64 numbers can promise, in nats, and must agree to themselves.
ACCURACY = 1e-6
TRUSTED = 0.75


class LogDet:
    """Compare with `log|det ∂f/∂x|`, the Jacobian by central differences of the float64 model.

    Differences ask nothing of a model but to be evaluated: some libraries invert without
    gradients, and a column costs two samples of one batch where a gradient costs a whole pass.
    """

    def prepare(self, source: Source) -> Sequence[Case]:
        """Make the case `jacobian` for a flow's `log_prob`, `inverse` and `forward`.

        Samples where two steps disagree are left out: a kink lies beside them. Where many do, the
        inverse is a numerical one, whose differences mean nothing, and no case is made; nor
        beyond `LARGEST` features.
        """
        both = _flow.directions(source)
        if both is None:
            return []
        forward = _flow.encoder(source, both)
        if source.entry.name == "inverse":
            return _case(source, source.entry, both.latents)
        if source.entry.name in ("log_prob", "forward") and forward is not None:
            return _case(source, forward, both.data)
        return []

    def judge(self, subject: Subject) -> Finding | None:
        """Answer with the largest difference, in nats."""
        case = next(iter(own_cases(subject, NAME)), None)
        if case is None:
            return None
        name, truth = next(iter(case.extra.items()))
        value = absolute(subject.run(case.inputs)[name], truth)
        own = oracle_limit(case.eager[name], case.oracle[name], k=subject.k)
        limit = subject.budget.get("nats", max(own, ACCURACY))
        return finding(
            NAME,
            subject,
            "ok" if value <= limit else "failed",
            value=value,
            limit=limit,
            unit="nats",
            reason=f"max over {len(truth)} samples of |{name} − the Jacobian's|",
        )


def _case(source: Source, transform: Entry, variables: Sequence[Input]) -> list[Case]:
    """Return the case of the samples whose Jacobian is known, with the output that it implies."""
    tensors = _draw.real(source, SAMPLES)
    widths = [tensors[item.name][0].numel() for item in variables]
    if sum(widths) > LARGEST or any(item.batch_axis for item in transform.inputs):
        return []
    *moved, own = source.exact(transform, _flow.ordered(transform, tensors))
    if sum(item[0].numel() for item in moved) != sum(widths):
        return []
    truth, known = _log_abs_det(source, transform, variables, tensors)
    if known.double().mean() < TRUSTED:
        return []
    given = {name: tensor[known] for name, tensor in tensors.items()}
    if source.entry.name == "log_prob":
        density = source.exact(source.entry, _flow.ordered(source.entry, given))[0]
        return [source.answer(NAME, "jacobian", given, log_prob=density + (truth - own)[known])]
    return [source.answer(NAME, "jacobian", given, log_det=truth[known])]


def _log_abs_det(
    source: Source, transform: Entry, variables: Sequence[Input], tensors: dict[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """Return `log|det|` of the Jacobian, `(batch,)`, and where two steps agree on it."""
    import torch

    names = [item.name for item in variables]
    at = torch.cat([tensors[name].double().flatten(1) for name in names], 1)
    samples, width = at.shape

    def call(points: Tensor) -> Tensor:
        times = len(points) // samples
        parts = torch.split(points, [tensors[name][0].numel() for name in names], 1)
        given = {name: tensor.repeat_interleave(times, 0) for name, tensor in tensors.items()}
        shaped = {
            name: part.reshape(-1, *tensors[name].shape[1:])
            for name, part in zip(names, parts, strict=True)
        }
        feeds = _flow.ordered(transform, {**given, **shaped})
        *moved, _ = source.exact(transform, feeds)
        return torch.cat([item.flatten(1) for item in moved], 1)

    coarse, fine = (_slogdet(call, at, step, width) for step in (STEP, STEP / 2))
    return fine, (coarse - fine).abs() <= ACCURACY


def _slogdet(call: Callable[[Tensor], Tensor], at: Tensor, step: float, width: int) -> Tensor:
    import torch

    steps = step * torch.eye(width, dtype=at.dtype)
    points = (at[:, None, None] + torch.stack([steps, -steps])).reshape(-1, width)
    after, before = call(points).reshape(len(at), 2, width, width).unbind(1)
    value: Tensor = torch.linalg.slogdet((after - before) / (2 * step))[1]
    return value


check = LogDet()
