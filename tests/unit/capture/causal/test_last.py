"""Networks that speak of the last position alone are the same network on every prefix."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from toolkit.capture.causal.lane import Refusal
from toolkit.core.entry import Autoregressive, Input
from toolkit.schedules import scan

LEVELS, LENGTH, BATCH = 5, 9, 3


class Attending(nn.Module):
    """A block of attention, then a head on what `pick` leaves of the positions."""

    def __init__(self, pick, width=8):
        super().__init__()
        self.pick = pick
        self.token, self.place = nn.Embedding(LEVELS, width), nn.Embedding(LENGTH, width)
        self.qkv, self.mix = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, LEVELS)

    def forward(self, tokens):
        h = self.token(tokens) + self.place(torch.arange(tokens.shape[1]))
        q, k, v = self.qkv(h).unsqueeze(1).chunk(3, -1)
        h = h + self.mix(F.scaled_dot_product_attention(q, k, v, is_causal=True).squeeze(1))
        return 6 * self.head(self.norm(self.pick(h)))


class Remembering(nn.Module):
    """A head on the hidden values that a recurrent layer ends with."""

    def __init__(self, cell=nn.LSTM, width=6):
        super().__init__()
        self.token, self.head = nn.Embedding(LEVELS, width), nn.Linear(2 * width, LEVELS)
        self.cells = cell(width, width, 2, batch_first=True)

    def forward(self, tokens):
        state = self.cells(self.token(tokens))[1]
        ends = state[0] if isinstance(state, tuple) else state
        return 8 * self.head(torch.cat([ends[-1], ends[0]], -1))


class Convolving(nn.Module):
    """A head on the last column of a causal convolution."""

    def __init__(self):
        super().__init__()
        self.token = nn.Embedding(LEVELS, 6)
        self.layer, self.head = nn.Conv1d(6, 8, 3), nn.Linear(8, LEVELS)

    def forward(self, tokens):
        h = torch.tanh(self.layer(F.pad(self.token(tokens).transpose(1, 2), (2, 0))))
        return 8 * self.head(h[:, :, -1])


NETWORKS = {
    "index": lambda: Attending(lambda h: h[:, -1]),
    "slice": lambda: Attending(lambda h: h[:, -1:, :]),
    "list": lambda: Attending(lambda h: h[:, [-1], :]),
    "lstm": Remembering,
    "gru": lambda: Remembering(nn.GRU),
    "convolution": Convolving,
}


def sampler(levels_axis=-1):
    x = torch.zeros(2, LENGTH, dtype=torch.int64)
    item = Input("x", x, ("batch", "time"), high=LEVELS - 1)
    return Autoregressive(
        "sample", "forward", item, "time", LEVELS, levels_axis, predicts="next", start=2
    )


@torch.no_grad()
@pytest.mark.parametrize("name", NETWORKS)
def test_draws_what_a_loop_over_prefixes_draws(name):
    torch.manual_seed(0)
    model = NETWORKS[name]().eval()
    uniform = torch.rand(LENGTH, BATCH, LEVELS).clamp(1e-6, 1 - 1e-6)
    noise = -(-uniform.log()).log()
    tokens = torch.full((BATCH, 1), 2)
    for position in range(LENGTH):
        logits = model(tokens).reshape(BATCH, LEVELS)
        level = (logits + noise[position]).argmax(1, keepdim=True)
        tokens = torch.cat([tokens, level], 1)
    drawn = scan.schedule(model, sampler()).generate(noise)
    assert torch.equal(drawn, tokens[:, 1:])
    assert len(drawn.unique()) > 1


@pytest.mark.parametrize(
    "pick",
    [lambda h: h[:, -2], lambda h: h[:, [-2]], lambda h: h[:, :1], lambda h: h[:, -1] + h[:, 0]],
)
def test_other_positions_are_refused(pick):
    with pytest.raises(Refusal, match=r"one position|not causal|positions"):
        scan.schedule(Attending(pick).eval(), sampler())
