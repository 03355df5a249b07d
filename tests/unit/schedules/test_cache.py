"""A cache of two levels, for attention written in several ways."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from toolkit.core.entry import Autoregressive, Input
from toolkit.core.errors import ExportError
from toolkit.schedules import _confirm, cache

LEVELS, LENGTH, WIDTH = 5, 61, 8


class Network(nn.Module):
    """One attention layer between an embedding and a head."""

    def __init__(self, heads=2):
        super().__init__()
        self.heads = heads
        self.token, self.place = nn.Embedding(LEVELS, WIDTH), nn.Embedding(LENGTH, WIDTH)
        self.qkv, self.head = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, LEVELS)

    def forward(self, tokens):
        x = self.token(tokens) + self.place(torch.arange(tokens.shape[1]))
        y = self.attend(*(self.by_head(part) for part in self.qkv(x).chunk(3, -1)))
        return 6 * self.head(x + y.transpose(1, 2).flatten(2))

    def by_head(self, x):
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def attend(self, q, k, v):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)


class Windowed(Network):
    def attend(self, q, k, v):
        age = torch.arange(q.shape[2])[:, None] - torch.arange(q.shape[2])
        return F.scaled_dot_product_attention(q, k, v, attn_mask=(age >= 0) & (age < 20))


class ByHand(Network):
    """Products and a softmax, the scores falling with the distance."""

    def attend(self, q, k, v):
        age = torch.arange(q.shape[2])[:, None] - torch.arange(q.shape[2])
        scores = q @ k.transpose(-1, -2) / 2 - 0.1 * age
        return scores.masked_fill(age < 0, -torch.inf).softmax(-1) @ v


class OneKey(Network):
    """All heads share the keys and values of the first."""

    def attend(self, q, k, v):
        return F.scaled_dot_product_attention(
            q, k[:, :1], v[:, :1], is_causal=True, enable_gqa=True
        )


class Layers(nn.Module):
    """Torch's own encoder, which merges items and heads."""

    def __init__(self):
        super().__init__()
        self.token, self.head = nn.Embedding(LEVELS, WIDTH), nn.Linear(WIDTH, LEVELS)
        layer = nn.TransformerEncoderLayer(WIDTH, 2, 16, dropout=0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, tokens):
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1])
        return 6 * self.head(self.layers(self.token(tokens), mask=mask, is_causal=True))


def declared(length=LENGTH):
    tokens = torch.randint(LEVELS, (2, length), generator=torch.Generator().manual_seed(0))
    x = Input("tokens", tokens, dims=("batch", "time"), kind="token", low=0, high=LEVELS - 1)
    return Autoregressive("generate", "forward", x, "time", LEVELS, 2, predicts="next")


@pytest.mark.parametrize("kind", [Network, Windowed, ByHand, OneKey, Layers])
def test_the_whole_network_chooses_what_was_drawn(kind):
    torch.manual_seed(0)
    model = kind().eval()
    made = cache.schedule(model, declared())
    _confirm.confirm(model, declared(), made.generate.double())


@pytest.mark.parametrize("fault", ["hidden", "steps"])
def test_a_planted_fault_is_noticed(fault):
    torch.manual_seed(0)
    model = Network().eval()
    generate = cache.schedule(model, declared()).generate.double()
    # Places that are not drawn yet are shown, or one chunk is written in the place of another.
    getattr(generate, fault)[:] = 0
    with pytest.raises(ExportError, match="the whole network chooses otherwise"):
        _confirm.confirm(model, declared(), generate)


def test_refuses_a_sequence_of_one_chunk():
    with pytest.raises(ExportError, match="more than the 32 positions of one chunk"):
        cache.schedule(Network(), declared(cache.CHUNK))
