"""A call that changes the model is refused, by what it changes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from toolkit.capture.initialised import check_initialised
from toolkit.capture.module import EntryModule
from toolkit.core.errors import ExportError

FIRST, SECOND = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0)).unbind()


class Average(nn.Module):
    """Keeps a running average of its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("average", torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        self.average.mul_(0.9).add_(0.1 * x.mean(0))
        return x - 1


class FirstBatch(nn.Module):
    """Normalises by its first batch."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))
        self.register_buffer("ready", torch.tensor(False))

    def forward(self, x: Tensor) -> Tensor:
        if not self.ready:
            self.scale.data.copy_(1 / x.std(0))
            self.ready.fill_(True)
        return x * self.scale


@pytest.mark.parametrize(
    ("layer", "what", "next_step"),
    [
        (Average(), "changes its own buffer 'average'", "only if self.training"),
        (FirstBatch(), "not initialised: its call sets 'scale'", "run the model once"),
    ],
)
def test_what_a_call_changes_is_named(layer: nn.Module, what: str, next_step: str) -> None:
    module = EntryModule(nn.Sequential(nn.Linear(4, 4), layer), "forward")
    with pytest.raises(ExportError, match=what) as caught:
        check_initialised(module, [FIRST], [SECOND])
    assert caught.value.where == "module 1"
    assert next_step in caught.value.next_step


def test_a_counter_that_no_batch_decides_is_no_fault() -> None:
    module = nn.BatchNorm1d(4).eval()
    check_initialised(module, [FIRST], [SECOND])
