from __future__ import annotations

import pytest
import torch

from toolkit.core.errors import UsageError
from toolkit.core.folder import RunFolder
from toolkit.core.recipe import load_recipe
from toolkit.models.pixelrnn import PixelRNN
from toolkit.nn.recurrent import DiagonalLSTM
from toolkit.stages import train

SIDE = 6
CELLS = ["diagonal", "row"]


def pixelrnn(**arguments) -> PixelRNN:
    torch.manual_seed(0)
    small = {"levels": 3, "height": SIDE, "width": SIDE, "hidden": 6, "layers": 2}
    return PixelRNN(**{**small, "first_kernel": 3, **arguments}).double().eval()


@torch.no_grad()
@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("cells", CELLS)
def test_no_logit_sees_its_own_colour_or_what_comes_later(cells, colours):
    model = pixelrnn(cells=cells, colours=colours)
    x = torch.rand(1, colours, SIDE, SIDE, dtype=torch.float64)
    plain = in_order(model(x))
    moves = 0
    for place in range(SIDE * SIDE * colours):
        pixel, colour = divmod(place, colours)
        other = x.clone()
        other[:, colour, pixel // SIDE, pixel % SIDE] += 1
        moved = (in_order(model(other)) != plain).any(1)[0]
        assert not moved[: place + 1].any()
        moves += int(moved[place + 1 :].any())
    assert moves == SIDE * SIDE * colours - 1


def in_order(logits: torch.Tensor) -> torch.Tensor:
    """Return logits `(batch, levels, positions)`: pixels in raster order, then colours."""
    return logits.movedim(2, 4).flatten(2)


@torch.no_grad()
def test_hidden_values_come_from_above_and_from_the_left():
    torch.manual_seed(0)
    lstm = DiagonalLSTM(2, 3).double()
    x = torch.randn(1, 2, SIDE, SIDE, dtype=torch.float64)
    plain = lstm(x)
    for row in range(SIDE):
        for column in range(SIDE):
            other = x.clone()
            other[..., row, column] += 1
            moved = (lstm(other) != plain).any(1)[0]
            expected = torch.zeros(SIDE, SIDE, dtype=torch.bool)
            expected[row:, column:] = True
            assert torch.equal(moved, expected)


@torch.no_grad()
@pytest.mark.parametrize("cells", CELLS)
def test_a_parallel_pass_gives_the_samples_back(cells):
    model = pixelrnn(cells=cells, colours=3, height=3, width=4, layers=1)
    noise = torch.randn(36, 2, 3, dtype=torch.float64)
    drawn = model.sample(noise)
    assert drawn.shape == (2, 3, 3, 4)
    by_colour = noise.permute(1, 2, 0).reshape(2, 3, 3, 4, 3).movedim(4, 2)
    assert torch.equal((model(model.embed(drawn.double())) + by_colour).argmax(1), drawn)


@torch.no_grad()
@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("cells", CELLS)
def test_pixel_by_pixel_it_draws_what_whole_passes_draw(cells, colours):
    model = pixelrnn(cells=cells, colours=colours, height=3, width=4)
    noise = torch.randn(12 * colours, 2, 3, dtype=torch.float64)
    state, drawn = model.init_state(2), []
    for now in noise.unflatten(0, (12, colours)).transpose(1, 2).flatten(2):
        levels, state = model.draw(now, state)
        drawn.append(levels)
    assert torch.equal(torch.stack(drawn, 2).unflatten(2, (3, 4)), model.sample(noise))


def test_the_full_size_has_the_papers_layers():
    model = PixelRNN(colours=3, levels=256, size="full")
    assert sum(isinstance(part, DiagonalLSTM) for part in model.modules()) == 12


def test_an_unknown_size_is_refused():
    with pytest.raises(UsageError, match="full"):
        PixelRNN(size="ful")


@pytest.mark.slow
def test_the_recipe_reaches_its_bits_per_dimension(tmp_path):
    metrics = train.run(load_recipe("pixelrnn"), RunFolder(tmp_path)).detail["metrics"]
    assert metrics["bits_per_dim"] < 1.92
