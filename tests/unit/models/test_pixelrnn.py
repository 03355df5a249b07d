from __future__ import annotations

import pytest
import torch

from toolkit.models.pixelrnn import PixelRNN
from toolkit.nn.recurrent import DiagonalLSTM

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


def test_the_full_size_has_the_papers_layers():
    model = PixelRNN(colours=3, levels=256, size="full")
    assert sum(isinstance(part, DiagonalLSTM) for part in model.modules()) == 12
