from __future__ import annotations

import pytest
import torch
from torch import nn

from toolkit.core.errors import UsageError
from toolkit.core.folder import RunFolder
from toolkit.core.recipe import load_recipe
from toolkit.models.gated_pixelcnn import GatedPixelCNN
from toolkit.models.pixelcnn import PixelCNN
from toolkit.stages import train

SIDE = 7


def gated(**arguments) -> GatedPixelCNN:
    torch.manual_seed(0)
    small = {"levels": 3, "height": SIDE, "width": SIDE, "channels": 6, "layers": 5}
    return GatedPixelCNN(**{**small, "first_kernel": 3, **arguments}).double().eval()


@torch.no_grad()
def seen(model: nn.Module, row: int, column: int) -> set[tuple[int, int]]:
    """Return the pixels whose change moves the logits of one pixel."""
    x = torch.rand(1, 1, SIDE, SIDE, dtype=torch.float64)
    here = model(x)[..., row, column]
    found = set()
    for place in range(SIDE * SIDE):
        y, across = divmod(place, SIDE)
        other = x.clone()
        other[..., y, across] += 1
        if (model(other)[..., row, column] != here).any():
            found.add((y, across))
    return found


def before(row: int, column: int) -> set[tuple[int, int]]:
    return {divmod(place, SIDE) for place in range(row * SIDE + column)}


@pytest.mark.parametrize(("row", "column"), [(5, 1), (4, 3), (6, 6), (0, 0)])
def test_a_pixel_sees_every_pixel_before_it_and_no_other(row, column):
    assert seen(gated(), row, column) == before(row, column)


def test_the_plain_pixelcnn_has_a_blind_spot():
    torch.manual_seed(0)
    small = {"levels": 3, "height": SIDE, "width": SIDE, "channels": 6, "layers": 5}
    plain = PixelCNN(**small, first_kernel=3).double().eval()
    spot = before(5, 1) - seen(plain, 5, 1)
    assert (4, 6) in spot
    assert seen(plain, 5, 1) < before(5, 1)


@torch.no_grad()
def test_colours_come_one_after_the_other():
    model = gated(colours=3, layers=2)
    x = torch.rand(1, 3, SIDE, SIDE, dtype=torch.float64)
    plain = model(x)[..., 3, 3]
    assert plain.shape == (1, 3, 3)
    for colour in range(3):
        other = x.clone()
        other[:, colour, 3, 3] += 1
        moved = (model(other)[..., 3, 3] != plain).any(1)[0]
        assert moved.tolist() == [later > colour for later in range(3)]


@torch.no_grad()
@pytest.mark.parametrize("colours", [1, 3])
def test_a_parallel_pass_gives_the_samples_back(colours):
    model = gated(colours=colours, height=3, width=4, layers=1)
    noise = torch.randn(12 * colours, 2, 3, dtype=torch.float64)
    drawn = model.sample(noise)
    assert drawn.shape == (2, colours, 3, 4)
    by_pixel = noise.permute(1, 2, 0).reshape(2, 3, 3, 4, colours).movedim(4, 2)
    assert torch.equal((model(model.embed(drawn.double())) + by_pixel).argmax(1), drawn)


def test_channels_that_colours_cannot_share_are_refused():
    with pytest.raises(UsageError, match="colours"):
        gated(colours=3, channels=8)


def test_the_full_size_has_the_papers_layers():
    model = GatedPixelCNN(colours=3, levels=256, height=32, width=32, size="full")
    assert len(model.paths) == 15
    assert model.paths[1].out.out_channels == 126


def test_an_unknown_size_is_refused():
    with pytest.raises(UsageError, match="full"):
        GatedPixelCNN(size="ful")


@pytest.mark.slow
def test_the_recipe_reaches_its_bits_per_dimension(tmp_path):
    metrics = train.run(load_recipe("gated_pixelcnn"), RunFolder(tmp_path)).detail["metrics"]
    assert metrics["bits_per_dim"] < 1.86
