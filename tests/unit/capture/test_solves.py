"""Systems with known matrices: no solver is left, and the answers are torch's."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from toolkit.capture.capture import capture
from toolkit.core.entry import Entry, Input

D = 6


class Solve(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        draws = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(D, D, generator=draws) + 4 * torch.eye(D))
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        weight, right = self.weight, x.t()
        match self.kind:
            case "solve":
                return torch.linalg.solve(weight, right).t()
            case "from the right":
                return torch.linalg.solve(weight, x, left=False)
            case "lower":
                return torch.linalg.solve_triangular(weight.tril(), right, upper=False).t()
            case "unit upper":
                solved = torch.linalg.solve_triangular(
                    weight / 5, right, upper=True, unitriangular=True
                )
                return solved.t()
            case "old":
                return torch.triangular_solve(right, weight, upper=False, transpose=True)[0].t()
            case "lu":
                return torch.linalg.lu_solve(*torch.linalg.lu_factor(weight), right).t()
            case _:
                return torch.cholesky_solve(right, torch.linalg.cholesky(weight @ weight.t())).t()


KINDS = ["solve", "from the right", "lower", "unit upper", "old", "lu", "cholesky"]


@pytest.mark.filterwarnings("ignore:torch.triangular_solve is deprecated")
@pytest.mark.parametrize("strategy", ["dynamo", "record"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_known_matrix_is_inverted_at_export(kind: str, strategy: str, tmp_path: Path) -> None:
    model = Solve(kind).eval()
    entry = Entry("forward", inputs=[Input("x", torch.randn(3, D), ("batch", None))])
    with warnings.catch_warnings():
        capture(model, entry, tmp_path / "m.onnx", strategies=[strategy])
    operators = {node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node}
    assert operators <= {"MatMul", "Transpose", "Gemm", "Identity"}
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    for batch in (1, 7):
        x = torch.randn(batch, D)
        (got,) = session.run(None, {"x": x.numpy()})
        np.testing.assert_allclose(got, model(x).detach(), rtol=2e-5, atol=1e-5)
