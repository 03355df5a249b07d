from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import toolkit
from toolkit.core.errors import UsageError
from toolkit.core.folder import RunFolder
from toolkit.core.recipe import load_recipe
from toolkit.data.coordinates import dataset, grid, square
from toolkit.models.implicit import Implicit
from toolkit.objectives.regression import objective
from toolkit.stages import export, train
from toolkit.stages._model import load_model

SIDE = 128
PICTURE = {"photo": "flower", "size": SIDE, "top": 50, "left": 200, "shrink": 2}


def psnr(given: Tensor, true: Tensor) -> float:
    return float(-10 * (given - true).square().mean().log10())


def fitted(size: int, **arguments) -> tuple[Implicit, dict[str, Tensor]]:
    torch.manual_seed(0)
    data = dataset(size=size, shrink=4, top=20, left=170)
    model = Implicit(**{"hidden": 32, **arguments})
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(150):
        optimizer.zero_grad()
        objective(model, data.train)["loss"].backward()
        optimizer.step()
    return model.eval(), dict(data.test)


@pytest.mark.parametrize("arguments", [{}, {"encoding": "fourier", "deviation": 2.0}])
def test_it_learns_pixels_that_it_never_saw(arguments):
    model, held = fitted(32, **arguments)
    mean = held["value"].mean(0).expand_as(held["value"])
    with torch.no_grad():
        assert psnr(model(held["x"]), held["value"]) > psnr(mean, held["value"]) + 6


def test_without_sines_or_features_detail_is_lost():
    sines, held = fitted(32)
    smooth, _ = fitted(32, omega=0.5)
    with torch.no_grad():
        detailed, blurred = (psnr(model(held["x"]), held["value"]) for model in (sines, smooth))
    assert detailed > blurred + 2


@pytest.mark.parametrize("encoding", ["none", "fourier"])
def test_colours_are_colours(encoding):
    colours = Implicit(encoding=encoding)(100 * torch.randn(64, 2))
    assert colours.shape == (64, 3)
    assert colours.min() >= 0
    assert colours.max() <= 1


def test_the_full_size_has_the_papers_five_layers():
    shapes = [tuple(p.shape) for p in Implicit(size="full").parameters() if p.ndim == 2]
    assert shapes == [(256, 2), (256, 256), (256, 256), (256, 256), (3, 256)]


@pytest.mark.parametrize(
    "arguments",
    [{"encoding": "wavelets"}, {"hidden": 7}, {"layers": 0}, {"size": "large"}],
)
def test_arguments_out_of_range_are_refused(arguments):
    with pytest.raises(UsageError):
        Implicit(**arguments)


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["none", "fourier"])
def test_the_published_size_exports(encoding, tmp_path):
    torch.manual_seed(0)
    model = Implicit(size="full", encoding=encoding).eval()
    results = toolkit.export(model, model.entries(), tmp_path)
    assert [item.outcome.status for item in results.values()] == ["ok"]
    x = grid(128)
    colour = torch.from_numpy(np.asarray(toolkit.load(tmp_path).forward(x=x.numpy())))
    with torch.no_grad():
        torch.testing.assert_close(colour, model(x), rtol=0, atol=2e-4)


@pytest.mark.slow
def test_the_exported_graph_holds_the_photograph(tmp_path):
    recipe, folder = load_recipe("implicit"), RunFolder(tmp_path)
    metrics = train.run(recipe, folder).detail["metrics"]
    assert metrics["psnr"] > 27.2
    export.run(recipe, folder)
    eager = load_model(recipe, folder)
    graph = tmp_path / "entries/forward/exported.onnx"
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])

    def drawn(points: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {"x": points.numpy()})[0])

    picture = square(**PICTURE)
    held = (slice(None, None, 2), slice(None, None, 2))
    whole = drawn(grid(SIDE)).reshape(SIDE, SIDE, 3)
    with torch.no_grad():
        plain = eager(grid(SIDE)).reshape(SIDE, SIDE, 3)
    assert psnr(whole, picture) > 30
    assert psnr(whole[held], picture[held]) > psnr(neighbours(picture)[held], picture[held]) + 0.8
    assert psnr(whole[held], picture[held]) == pytest.approx(
        psnr(plain[held], picture[held]), abs=1e-3
    )

    fine = drawn(grid(2 * SIDE)).reshape(2 * SIDE, 2 * SIDE, 3)
    shrunk = fine.reshape(SIDE, 2, SIDE, 2, 3).mean((1, 3))
    assert psnr(shrunk, picture) > 29
    assert not torch.equal(drawn(grid(SIDE).flip(1)).reshape(SIDE, SIDE, 3), whole)


def neighbours(picture: Tensor) -> Tensor:
    """Return the mean of the four pixels beside each: none of them is held out with it."""
    padded = F.pad(picture.permute(2, 0, 1)[None], (1, 1, 1, 1), mode="reflect")[0]
    above, below = padded[:, :-2, 1:-1], padded[:, 2:, 1:-1]
    left, right = padded[:, 1:-1, :-2], padded[:, 1:-1, 2:]
    return ((above + below + left + right) / 4).permute(1, 2, 0)
