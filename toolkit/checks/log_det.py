"""Is a flow's log-determinant the one that autograd finds?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from toolkit.checks import _draw
from toolkit.checks._judge import finding, own_cases
from toolkit.core.case import Case
from toolkit.core.outcome import Finding
from toolkit.core.protocols import Source, Subject
from toolkit.runtime.limits import absolute, oracle_limit

if TYPE_CHECKING:
    from torch import Tensor, nn

NAME = "log_det"
SAMPLES = 8


class LogDet:
    """Compare with `log|det ∂f/∂x|` of the float64 model, its Jacobian taken by autograd."""

    def prepare(self, source: Source) -> Sequence[Case]:
        """Make the case `autograd` for entries of a flow that return a density or determinant."""
        outputs = {spec.name for spec in source.signature.outputs}
        if source.signature.family != "flow" or not outputs & {"log_prob", "log_det"}:
            return []
        inputs = _draw.real(source, SAMPLES)
        x = next(iter(inputs.values()))
        return [source.answer(NAME, "autograd", inputs, **_truth(source, x))]

    def judge(self, subject: Subject) -> Finding | None:
        """Answer with the largest difference, in nats."""
        case = next(iter(own_cases(subject, NAME)), None)
        if case is None:
            return None
        name, truth = next(iter(case.extra.items()))
        value = absolute(subject.run(case.inputs)[name], truth)
        limit = subject.budget.get("nats", oracle_limit(case.eager[name], truth, k=subject.k))
        return finding(
            NAME,
            subject,
            "ok" if value <= limit else "failed",
            value=value,
            limit=limit,
            unit="nats",
            reason=f"max over {len(truth)} samples of |{name} − autograd's|",
        )


def _truth(source: Source, inputs: Tensor) -> dict[str, np.ndarray]:
    """Return, in float64, the output that the autograd Jacobian implies."""
    import copy

    import torch

    model = copy.deepcopy(source.model).double()
    values = inputs.double()
    if any(spec.name == "log_prob" for spec in source.signature.outputs):
        with torch.no_grad():
            density, own = model.log_prob(values), model(values)[1]  # type: ignore[operator]
        return {"log_prob": (density - own + _jacobian(model, "forward", values)).numpy()}
    return {"log_det": _jacobian(model, "inverse", values).numpy()}


def _jacobian(model: nn.Module, method: str, values: Tensor) -> Tensor:
    """Return `log|det|` of a method's Jacobian, `(batch,)`, one sample at a time."""
    import torch

    def transform(row: Tensor) -> Tensor:
        result: Tensor = getattr(model, method)(row.reshape(1, *values.shape[1:]))[0]
        return result.reshape(-1)

    rows = [
        torch.autograd.functional.jacobian(  # type: ignore[no-untyped-call]
            transform, row.reshape(-1), vectorize=True
        ).slogdet()[1]
        for row in values
    ]
    return torch.stack(rows).detach()


check = LogDet()
