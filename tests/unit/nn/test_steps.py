"""Every layer with a step gives, position by position, what its forward pass gives at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from toolkit.nn.attention import CausalAttention, decoder_block
from toolkit.nn.causal import CausalConv1d, MaskedConv1d, MaskedRowConv, RowCausalConv2d
from toolkit.nn.gated import GatedPixelLayer, GatedResidual1d, GatedStack1d
from toolkit.nn.masked import CausalLayer, MaskedConv2d
from toolkit.nn.nade import NADELayer, TriangularLinear
from toolkit.nn.recurrent import GRU, LSTM, RNN, DiagonalLSTM, RowLSTM
from toolkit.nn.stack import Positions, Residual, Shift, Stack, Stepping, init_state, step

BATCH, TIME, FEATURES, HEIGHT, WIDTH = 3, 9, 6, 5, 7
LIMIT = 1e-12


@dataclass
class Walk:
    """How a kind of input is cut into positions, in order, and how outputs are put together."""

    shape: tuple[int, ...]
    cut: Callable[[Tensor], list[Tensor]]
    join: Callable[[list[Tensor]], Tensor]
    size: tuple[int, ...] = ()


def raster(entries: list[Tensor]) -> Tensor:
    return torch.stack(entries, 2).unflatten(2, (HEIGHT, WIDTH))


SEQUENCE = Walk(
    (BATCH, TIME, FEATURES), lambda x: list(x.unbind(1)), lambda given: torch.stack(given, 1)
)
CHANNELS = Walk(
    (BATCH, FEATURES, TIME), lambda x: list(x.unbind(2)), lambda given: torch.stack(given, 2)
)
VECTOR = Walk((BATCH, TIME), lambda x: list(x.unbind(1)), lambda given: torch.stack(given, 1))
PIXELS = Walk(
    (BATCH, FEATURES, HEIGHT, WIDTH), lambda x: list(x.flatten(2).unbind(2)), raster, (WIDTH,)
)
ROWS = Walk(
    (BATCH, FEATURES, HEIGHT, WIDTH),
    lambda x: list(x.unbind(2)),
    lambda given: torch.stack(given, 2),
    (WIDTH,),
)
ONE_ROW = Walk(
    (BATCH, FEATURES, 1, TIME),
    lambda x: list(x.squeeze(2).unbind(2)),
    lambda given: torch.stack(given, 2).unsqueeze(2),
)


class Twice(nn.Module):
    """A layer of two paths, fed and read as one tensor."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat(self.layer((x, x)), 1)

    def init_state(self, batch, *size):
        return init_state(self.layer, batch, *size)

    def step(self, x, state):
        pair, state = step(self.layer, (x, x), state)
        return torch.cat(pair, 1), state


class Joined(nn.Module):
    """A layer of two outputs, read as one tensor."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat(self.layer(x), 1)

    def init_state(self, batch, *size):
        return init_state(self.layer, batch, *size)

    def step(self, x, state):
        pair, state = step(self.layer, x, state)
        return torch.cat(pair, 1), state


def causal_layers(colours: int) -> Stack:
    first = MaskedConv2d("A", 6, 12, 5, colours=colours, repeats=2)
    hidden = MaskedConv2d("B", 6, 6, 3, colours=colours)
    return Stack(
        CausalLayer(first, nn.GLU(1), residual=False),
        CausalLayer(hidden, nn.ReLU(), residual=True),
        CausalLayer(MaskedConv2d("B", 6, 9, 1, colours=colours), nn.Identity(), residual=False),
    )


# What each reads: `now`: a position sees itself too; `before`: only what comes before.
LAYERS = {
    "conv": (lambda: CausalConv1d(6, 4, 3), CHANNELS, "now"),
    "conv of one tap": (lambda: CausalConv1d(6, 4, 1), CHANNELS, "now"),
    "dilated conv": (lambda: CausalConv1d(6, 4, 3, dilation=2), CHANNELS, "now"),
    "masked conv A": (lambda: MaskedConv1d("A", 6, 4, 3), CHANNELS, "before"),
    "masked conv B": (lambda: MaskedConv1d("B", 6, 6, 2, colours=3), CHANNELS, "now"),
    "row conv": (lambda: MaskedRowConv("B", 6, 6, 3, colours=3), ONE_ROW, "now"),
    "conv over rows": (lambda: RowCausalConv2d(6, 4, 3, 5), ROWS, "now"),
    "conv over one row": (lambda: RowCausalConv2d(6, 4, 1, 3), ROWS, "now"),
    "pixel conv A": (lambda: MaskedConv2d("A", 6, 4, 5), PIXELS, "before"),
    "pixel conv B": (lambda: MaskedConv2d("B", 6, 4, 3), PIXELS, "now"),
    "pixel conv of one tap": (lambda: MaskedConv2d("B", 6, 4, 1), PIXELS, "now"),
    "wide pixel conv": (lambda: MaskedConv2d("B", 6, 4, 17), PIXELS, "now"),
    "coloured pixel conv": (lambda: MaskedConv2d("A", 6, 6, 3, colours=3), PIXELS, "now"),
    "causal layers": (lambda: causal_layers(1), PIXELS, "before"),
    "coloured causal layers": (lambda: causal_layers(3), PIXELS, "now"),
    "gated residual": (lambda: Joined(GatedResidual1d(6, 4, 2, 2, last=False)), CHANNELS, "now"),
    "last gated residual": (
        lambda: Joined(GatedResidual1d(6, 4, 2, 1, last=True)),
        CHANNELS,
        "now",
    ),
    "gated stack": (lambda: GatedStack1d(6, 5, 2, [1, 2, 4]), CHANNELS, "now"),
    "gated pixels A": (lambda: Twice(GatedPixelLayer("A", 6, 4, 5)), ROWS, "now"),
    "gated pixels B": (lambda: Twice(GatedPixelLayer("B", 6, 6, 3, colours=3)), ROWS, "now"),
    "gated pixel stack": (
        lambda: Twice(Stack(*(GatedPixelLayer(kind, 6, 6, 3) for kind in "ABB"))),
        ROWS,
        "now",
    ),
    "rnn": (lambda: RNN(6, 5, 2), SEQUENCE, "now"),
    "gru": (lambda: GRU(6, 5, 2), SEQUENCE, "now"),
    "lstm": (lambda: LSTM(6, 5, 2), SEQUENCE, "now"),
    "diagonal lstm": (lambda: DiagonalLSTM(6, 6, colours=3), PIXELS, "now"),
    "row lstm": (lambda: RowLSTM(6, 6, colours=3), PIXELS, "now"),
    "diagonal lstms": (lambda: Stack(DiagonalLSTM(6, 4), DiagonalLSTM(4, 5)), PIXELS, "now"),
    "attention": (lambda: CausalAttention(6, 2), SEQUENCE, "now"),
    "attention in a window": (lambda: CausalAttention(6, 3, window=3), SEQUENCE, "now"),
    "decoder block": (lambda: decoder_block(6, 2, window=4), SEQUENCE, "now"),
    "decoder": (
        lambda: Stack(Shift(6), Positions(TIME, 6), decoder_block(6, 2), decoder_block(6, 3)),
        SEQUENCE,
        "before",
    ),
    "residual lstm": (
        lambda: Stack(nn.Linear(6, 5), Residual(LSTM(5, 5)), nn.Tanh()),
        SEQUENCE,
        "now",
    ),
    "triangular": (lambda: TriangularLinear(TIME), VECTOR, "before"),
    "nade": (lambda: NADELayer(TIME, 8), VECTOR, "before"),
}


def make(name: str) -> tuple[nn.Module, Walk, Tensor]:
    torch.manual_seed(0)
    maker, walk, _ = LAYERS[name]
    layer = maker().double().eval()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return layer, walk, torch.randn(walk.shape, dtype=torch.float64)


def stepped(layer: nn.Module, walk: Walk, x: Tensor) -> Tensor:
    state, given = init_state(layer, len(x), *walk.size), []
    for entry in walk.cut(x):
        y, state = step(layer, entry, state)
        given.append(y)
    return walk.join(given)


@torch.no_grad()
@pytest.mark.parametrize("name", LAYERS)
def test_steps_give_what_the_forward_pass_gives(name):
    layer, walk, x = make(name)
    expected = layer(x)
    assert expected.std() > 1e-3
    torch.testing.assert_close(stepped(layer, walk, x), expected, rtol=0, atol=LIMIT)


@torch.no_grad()
@pytest.mark.parametrize("name", LAYERS)
def test_outputs_keep_every_bit_when_later_inputs_change(name):
    layer, walk, x = make(name)
    plain, reads = walk.cut(layer(x)), LAYERS[name][2]
    for position in range(len(plain)):
        entries = walk.cut(x)
        entries[position] = entries[position] + 1
        moved = [
            bool((one != other).any())
            for one, other in zip(walk.cut(layer(walk.join(entries))), plain, strict=True)
        ]
        first = position + (reads == "before")
        assert not any(moved[:first])
        if first < len(plain) and name != "pixel conv A":
            assert any(moved[first:])


@torch.no_grad()
def test_a_state_is_not_changed_by_a_step():
    layer, walk, x = make("decoder")
    assert isinstance(layer, Stepping)
    first, second, *_ = walk.cut(x)
    _, state = layer.step(first, layer.init_state(BATCH))
    once = layer.step(second, state)[0]
    assert torch.equal(layer.step(second, state)[0], once)
