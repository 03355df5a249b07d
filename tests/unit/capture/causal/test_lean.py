"""A factor goes into the weights of the layer that it scales, unless others read the layer, too."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from toolkit.capture.causal.lean import lean
from toolkit.capture.causal.program import evaluate, trace

aten = torch.ops.aten
WEIGHT = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
X = torch.randn(3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def piece(x):
    q, k, v = F.linear(x, WEIGHT, WEIGHT[:, 0]).split(2, -1)
    return q + (k.reshape(3, 2, 1) * 0.5).squeeze(-1) - v


def whole(x):
    return torch.tanh(F.linear(x, WEIGHT).unsqueeze(0) * 3.0)


def read_twice(x):
    q, k, _ = F.linear(x, WEIGHT).split(2, -1)
    return q + k * 0.5 + torch.tanh(k)


def whole_and_piece(x):
    y = F.linear(x, WEIGHT)
    return y.split(2, -1)[0] * 0.5 + y.sum(-1, keepdim=True)


def by_rows(x):
    return F.linear(x, WEIGHT).split(1, 0)[1] * 0.5


@pytest.mark.parametrize(
    ("function", "left"),
    [(piece, 0), (whole, 0), (read_twice, 1), (whole_and_piece, 1), (by_rows, 1)],
)
def test_a_factor_goes_into_the_weights_that_it_alone_scales(function, left):
    program = lean(trace(function, [X]))
    assert [node.target for node in program.nodes].count(aten.mul.Tensor) == left
    found = evaluate(program, {program.inputs[0]: X})(program.outputs[0])
    torch.testing.assert_close(found, function(X), rtol=1e-12, atol=1e-12)
