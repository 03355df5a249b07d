from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

from toolkit.capture.capture import capture
from toolkit.core import registry
from toolkit.core.folder import RunFolder
from toolkit.core.recipe import load_recipe
from toolkit.models.googlenet import GoogLeNet
from toolkit.stages import train


@pytest.fixture(scope="module")
def model() -> GoogLeNet:
    torch.manual_seed(0)
    model = GoogLeNet(divisor=16).eval()
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.bias)
            nn.init.normal_(part.running_mean)
    return model


@pytest.fixture(scope="module")
def graph(model: GoogLeNet, tmp_path_factory: pytest.TempPathFactory) -> onnx.GraphProto:
    path: Path = tmp_path_factory.mktemp("graph") / "forward.onnx"
    capture(model, model.entries()[0], path)
    return onnx.load(path).graph


def test_the_auxiliary_heads_train_and_lower_their_own_losses():
    torch.manual_seed(0)
    model = GoogLeNet(divisor=16).train()
    draws = torch.Generator().manual_seed(0)
    batch = {
        "x": torch.rand(16, 1, 16, 16, generator=draws),
        "label": torch.arange(16) % 10,
    }
    objective = registry.objectives.load("auxiliary")
    optimizer = torch.optim.Adam(model.auxiliary.parameters(), lr=1e-2)

    def auxiliary_losses() -> list[float]:
        with torch.no_grad():
            _, *others = model(batch["x"])
        return [float(nn.functional.cross_entropy(other, batch["label"])) for other in others]

    before = auxiliary_losses()
    for _ in range(20):
        optimizer.zero_grad()
        objective(model, batch)["loss"].backward()
        optimizer.step()
    assert len(before) == 2
    assert all(after < first for after, first in zip(auxiliary_losses(), before, strict=True))


def test_the_auxiliary_heads_are_absent_from_the_exported_graph(model, graph):
    convolutions = [part for part in model.modules() if isinstance(part, nn.Conv2d)]
    auxiliary = [part for part in model.auxiliary.modules() if isinstance(part, nn.Conv2d)]
    exported = [node for node in graph.node if node.op_type == "Conv"]
    assert len(auxiliary) == 2
    assert len(exported) == len(convolutions) - len(auxiliary)
    assert sum(node.op_type in ("Gemm", "MatMul") for node in graph.node) == 1
    assert [value.name for value in graph.output] == ["logits"]


def test_batch_normalisation_is_folded_into_the_convolutions(graph):
    assert {node.op_type for node in graph.node} <= {
        "Conv", "Relu", "MaxPool", "Concat", "ReduceMean", "GlobalAveragePool", "Gemm", "MatMul",
        "Add", "Reshape", "Flatten", "Squeeze",
    }  # fmt: skip
    assert all(len(node.input) == 3 for node in graph.node if node.op_type == "Conv")


def test_full_has_the_published_blocks():
    with torch.device("meta"):
        model = GoogLeNet(size="full").eval()
        assert model(torch.zeros(1, 3, 224, 224)).shape == (1, 1000)
    left = sum(item.numel() for part in (model.stem, model.blocks, model.head)
               for item in part.parameters())  # fmt: skip
    norms = sum(
        part.num_features
        for group in (model.stem, model.blocks)
        for part in group.modules()
        if isinstance(part, nn.BatchNorm2d)
    )
    # With a bias per channel, as published, instead of a scale and a shift.
    assert left - norms == 6_998_552


@pytest.mark.slow
def test_the_recipe_reaches_its_accuracy(tmp_path):
    metrics = train.run(load_recipe("googlenet"), RunFolder(tmp_path)).detail["metrics"]
    assert metrics["accuracy"] > 97
