"""Parameter folding: nothing on weights alone is left, in float64, and nothing grows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from toolkit.capture.capture import capture
from toolkit.capture.fold import FREE_BYTES, fold_parameters
from toolkit.core.entry import Entry, Input
from toolkit.core.errors import ExportError

EXAMPLE = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
ENTRY = Entry("forward", inputs=[Input("x", EXAMPLE, ("batch", None))], outputs=["y"])


class Linear(nn.Module):
    """All the linear algebra on weights that a flow does."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.weight = nn.Parameter(torch.randn(8, 8, generator=generator))
        self.scale = nn.Parameter(torch.randn(8, generator=generator))
        self.register_buffer("mask", torch.tril(torch.ones(8, 8)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        masked = self.weight * self.mask + 4 * torch.eye(8)
        log_det = torch.linalg.slogdet(masked)[1] + self.scale.sum()
        return x @ torch.linalg.inv(masked).T * torch.exp(self.scale) + log_det


class LowRank(nn.Module):
    """A product of thin factors that would be larger than both."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Parameter(torch.randn(8, 1))
        self.right = nn.Parameter(torch.randn(1, 8192))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ (self.left @ self.right)


class Dithered(nn.Module):
    """Random numbers are not constants, though they depend on no input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.rand(8) * 0


def load(path: Path) -> onnx.ModelProto:
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    return model


def test_linear_algebra_and_masks_become_constants(tmp_path: Path) -> None:
    model = Linear().eval()
    captured = capture(model, ENTRY, tmp_path / "m.onnx")
    graph = load(tmp_path / "m.onnx").graph
    assert sorted(node.op_type for node in graph.node) == ["Add", "MatMul", "Mul"]
    assert captured.made.folding.constants == 3
    assert captured.strategy == "dynamo"


def test_constants_are_evaluated_in_float64(tmp_path: Path) -> None:
    model = Linear().eval()
    capture(model, ENTRY, tmp_path / "m.onnx")
    stored = [numpy_helper.to_array(item) for item in load(tmp_path / "m.onnx").graph.initializer]
    double = Linear().double().eval()
    masked = double.weight * double.mask + 4 * torch.eye(8, dtype=torch.float64)
    inverse = torch.linalg.inv(masked).T.detach().numpy().astype(np.float32)
    assert any(np.array_equal(item, inverse) for item in stored if item.shape == (8, 8))


def test_a_fold_that_would_grow_the_model_is_not_taken(tmp_path: Path) -> None:
    model = LowRank().eval()
    assert FREE_BYTES < 8 * 8192 * 4
    captured = capture(model, ENTRY, tmp_path / "m.onnx")
    assert captured.made.folding.kept == 1
    largest = max(
        numpy_helper.to_array(item).size for item in load(tmp_path / "m.onnx").graph.initializer
    )
    assert largest == 8192


def test_random_operators_are_not_folded() -> None:
    program = torch.export.export(Dithered().eval(), (ENTRY.inputs[0].value,), strict=False)
    assert fold_parameters(program).constants == 0


def test_a_graph_that_draws_random_numbers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError) as caught:
        capture(Dithered().eval(), ENTRY, tmp_path / "m.onnx")
    assert caught.value.where.count("random numbers") == 3


@pytest.mark.parametrize("batch", [1, 2, 7, 64])
def test_the_folded_graph_answers_at_every_batch(tmp_path: Path, batch: int) -> None:
    model = Linear().eval()
    capture(model, ENTRY, tmp_path / "m.onnx")
    x = torch.randn(batch, 8, generator=torch.Generator().manual_seed(batch))
    with torch.no_grad():
        wanted = model(x)
    found = onnxruntime.InferenceSession(tmp_path / "m.onnx").run(None, {"x": x.numpy()})[0]
    np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-4, atol=1e-5)
