from __future__ import annotations

import onnxruntime
import pytest
import torch
from torch import nn

import toolkit
from toolkit.capture.capture import capture
from toolkit.core.errors import UsageError
from toolkit.core.folder import RunFolder
from toolkit.core.recipe import load_recipe
from toolkit.models.keypoints import KeyPoints
from toolkit.stages._model import load_data
from toolkit.stages.pipeline import run_pipeline

SMALL = {"size": 16, "points": 3, "width": 8, "depth": 2}


class Planted(nn.Module):
    """A head whose scores peak in one given cell of each map."""

    def __init__(self, cells: list[tuple[int, int]]) -> None:
        super().__init__()
        self.cells = cells

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = x.new_zeros(len(x), len(self.cells), *x.shape[2:])
        for place, (row, column) in enumerate(self.cells):
            scores[:, place, row, column] = 1e3
        return scores


@pytest.mark.parametrize("stride", [2, 4])
def test_places_are_in_pixels_of_the_picture(stride):
    model = KeyPoints(**SMALL, stride=stride).eval()
    model.heads[0] = Planted([(0, 0), (1, 3), (2, 0)])
    points, maps = model(torch.rand(2, 1, 32, 16))
    assert maps.shape == (2, 3, 32 // stride, 16 // stride)
    expected = stride * torch.tensor([[0.5, 0.5], [3.5, 1.5], [0.5, 2.5]])
    torch.testing.assert_close(points, expected.expand(2, 3, 2))


def test_while_training_every_hourglass_answers():
    torch.manual_seed(0)
    model, x = KeyPoints(**SMALL, stacks=2), torch.rand(2, 1, 16, 16)
    points, maps = model.train()(x)
    assert points.shape == (2, 2, 3, 2)
    assert maps.shape == (2, 2, 3, 8, 8)
    points[0].sum().backward()
    assert model.heads[0].weight.grad is not None
    assert model.heads[1].weight.grad.abs().max() == 0
    assert model.eval()(x)[0].shape == (2, 3, 2)


def test_the_exported_graph_takes_any_height_and_width(tmp_path):
    torch.manual_seed(0)
    model = KeyPoints(**SMALL, stacks=2).eval()
    path = tmp_path / "forward.onnx"
    capture(model, model.entries()[0], path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for shape in ((1, 1, 16, 16), (2, 1, 8, 24), (3, 1, 40, 8)):
        x = torch.rand(shape)
        with torch.no_grad():
            expected = model(x)
        for found, wanted in zip(session.run(None, {"x": x.numpy()}), expected, strict=True):
            torch.testing.assert_close(torch.from_numpy(found), wanted, rtol=1e-4, atol=1e-5)


def test_full_is_the_published_network():
    with torch.device("meta"):
        model = KeyPoints(size="full").eval()
        points, maps = model(torch.zeros(1, 3, 256, 256))
    assert points.shape == (1, 16, 2)
    assert maps.shape == (1, 16, 64, 64)
    assert len(model.hourglasses) == 8
    assert {head.in_channels for head in model.heads} == {256}


@pytest.mark.slow
def test_full_exports(tmp_path):
    torch.manual_seed(0)
    model = KeyPoints(size="full").eval()
    path = tmp_path / "forward.onnx"
    capture(model, model.entries()[0], path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    x = torch.rand(1, 3, 256, 256)
    with torch.no_grad():
        expected, _ = model(x)
    found, _ = session.run(None, {"x": x.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize(
    "arguments",
    [{"points": 0}, {"width": 12}, {"stride": 3}, {"stacks": 0}, {"size": 20}, {"depth": 0}],
)
def test_arguments_out_of_range_are_refused(arguments):
    with pytest.raises(UsageError):
        KeyPoints(**arguments)


@pytest.mark.slow
def test_the_recipe_finds_held_out_points_within_a_pixel(tmp_path):
    recipe, folder = load_recipe("keypoints"), RunFolder(tmp_path)
    trained, exported = run_pipeline(recipe, folder, last="export")
    assert exported.outcome.ok
    metrics = trained.outcome.detail["metrics"]
    data = load_data(recipe)
    points, _ = toolkit.load(folder.path).forward(x=data.test["x"].numpy())
    wanted = data.test["points"]
    error = float((torch.from_numpy(points) - wanted).norm(dim=2).mean())
    guess = float((data.train["points"].mean(0) - wanted).norm(dim=2).mean())
    assert error == pytest.approx(metrics["test_loss"], rel=1e-3)
    assert error < 0.8
    assert guess > 4
