"""Operators without a translation are taken apart alone; a program is not traced again for them."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from toolkit.capture.decompose import decompose, is_final, translated

X = torch.randn(5, 4, 6, generator=torch.Generator().manual_seed(0))


class Calls(nn.Module):
    """A function as a module."""

    def __init__(self, call) -> None:
        super().__init__()
        self.call = call

    def forward(self, x):
        return self.call(x)


def exported(module: nn.Module, x=X) -> ExportedProgram:
    with torch.no_grad():
        return torch.export.export(
            module, (x,), dynamic_shapes=({0: Dim("batch", min=1, max=64)},), strict=False
        )


CALLS = {
    "cast": lambda x: x.to(torch.float64) + 1,
    "cast to itself, the output": lambda x: x.to(x.dtype),
    "moved axes": lambda x: x.movedim(2, 0) * 2,
    "from a number": lambda x: 1 - x,
    "one chunk": lambda x: x.chunk(1, 2)[0] * 2,
    "chunks": lambda x: torch.cat(x.chunk(3, 2)[::-1], 2),
    "writes inside": lambda x: torch.nn.functional.binary_cross_entropy_with_logits(x, x.sigmoid()),
    "sizes inside": lambda x: torch.nn.functional.adaptive_avg_pool2d(x[:, None], 1),
}


@pytest.mark.parametrize("name", CALLS)
def test_parts_give_the_same_at_every_batch(name):
    program = exported(Calls(CALLS[name]))
    decompose(program)
    assert is_final(program)
    module = program.module()
    for batch in (1, 2, 5, 7):
        x = X[torch.arange(batch) % len(X)]
        torch.testing.assert_close(module(x), CALLS[name](x), rtol=1e-6, atol=1e-6)


def test_what_is_translated_stays():
    program = exported(Calls(lambda x: torch.nn.functional.linear(x.tanh(), X[0])))
    before = [node.target for node in program.graph_module.graph.nodes]
    decompose(program)
    assert [node.target for node in program.graph_module.graph.nodes] == before


def test_an_operator_that_cannot_be_taken_apart_stays():
    program = exported(Calls(lambda x: torch.linalg.eigvals(x @ x.mT).real))
    decompose(program)
    assert not is_final(program)


def test_a_cell_is_translated_whole():
    assert torch.ops.aten.gru_cell.default in translated()
