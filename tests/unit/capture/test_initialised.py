"""A call that changes the model is refused, by what it changes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from toolkit.capture.capture import capture
from toolkit.capture.initialised import check_initialised
from toolkit.core.entry import Entry, Input
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


def test_a_call_that_changes_its_own_buffer_is_told_so(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 4), Average())
    entry = Entry("forward", inputs=[Input("x", FIRST, dims=("batch", None))])
    with pytest.raises(ExportError, match="changes its own buffer 'average'") as caught:
        capture(model, entry, tmp_path / "m.onnx")
    assert caught.value.where == "module 1"
    assert "only if self.training" in caught.value.next_step


class Counter(nn.Module):
    """Counts its calls, whatever it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        self.calls.add_(1)
        return x


def test_a_counter_that_no_batch_decides_is_no_fault() -> None:
    check_initialised(Counter(), [FIRST], [SECOND])
