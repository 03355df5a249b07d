"""What a captured program knows without its inputs."""

from __future__ import annotations

import torch
from torch import nn

from toolkit.capture.causal.network import exact_samples
from toolkit.capture.causal.program import capture, evaluate
from toolkit.core.entry import Autoregressive, Input
from toolkit.schedules.scan import schedule


class Skipping(nn.Module):
    """A sum over layers that begins with zeros like the input, as many networks are written."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.head = nn.Embedding(5, 6), nn.Linear(6, 5)
        self.cell = nn.GRU(6, 6, batch_first=True)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        h = self.token(tokens)
        total = torch.zeros_like(h)
        total = total + self.cell(h)[0] * torch.full_like(h, 2.0)
        return 4 * self.head(total)


def test_blanks_read_a_shape_alone_and_are_known() -> None:
    program = capture(nn.Sequential(nn.Tanh()), [torch.randn(2, 3)])
    assert len(program.nodes) == 1

    class Blank(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.tanh(x) + torch.ones_like(torch.exp(x))

    program = capture(Blank(), [torch.randn(2, 3)])
    assert "ones_like" not in " ".join(str(node.target) for node in program.nodes)
    x = torch.randn(2, 3, dtype=torch.float64)
    found = evaluate(program, {program.inputs[0]: x})(program.outputs[0])
    assert torch.equal(found, torch.tanh(x) + 1)


@torch.no_grad()
def test_a_network_that_begins_with_zeros_is_derived() -> None:
    torch.manual_seed(0)
    model = Skipping().eval()
    x = Input("x", torch.zeros(2, 8, dtype=torch.int64), ("batch", "time"), high=4)
    sampler = Autoregressive("sample", "forward", x, "time", 5, 2, predicts="next")
    noise = torch.randn(8, 4, 5)
    drawn = schedule(model, sampler).generate(noise)
    assert torch.equal(drawn, exact_samples(model, sampler, noise, [], torch.zeros_like(drawn)))
    assert len(drawn.unique()) > 1
